"""What each kind of Redis user must be allowed, as ACL rules: docs/permissions.md says it by program."""

from __future__ import annotations

SHIPPER_COMMANDS = (
    "+select +eval +evalsha +script|load +exists +xinfo|stream +xinfo|groups +xpending "
    "+xadd +xrange +xlen +xtrim +set +get +del +pttl +pexpire"
)
READER_COMMANDS = "+select +scan +type +xinfo|stream +xread +xrange +xrevrange"
LIVE_COMMANDS = "+select +scan +exists +get +xinfo|stream +xrange"
CLUSTER_SHIPPER_COMMANDS = "+cluster|slots +asking"
"""Beside the others, where Redis is a cluster; `CLUSTER_READER_COMMANDS` for all that search for streams."""
CLUSTER_READER_COMMANDS = "+cluster|slots +cluster|nodes +asking"
GROUP_COMMANDS = (
    "+select +scan +type +xinfo|groups +xinfo|stream "
    "+xgroup|create +xreadgroup +xautoclaim +xpending +xack +multi +exec"
)
