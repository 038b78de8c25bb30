"""Where pages have what they show from: looks at the streams, at Redis, at paths, off the thread that draws."""
