"""All that is said to Redis: connections, compare-and-append, replay, trimming, the maintenance lock."""
