#!/bin/sh
# dpkg: `configure [OLD-VERSION]`, `triggered`, or `abort-…` where nothing was changed. rpm: how many are installed then.
set -eu
home=/opt/hsm-shipper
package="@PACKAGE@"
services="@SERVICES@"
units="@UNITS@"
start="@START@"
case "${1-}" in
configure) upgrade=${2:+yes} ;;
triggered) upgrade= ;;
1) upgrade= ;;
[2-9]) upgrade=yes ;;
*) exit 0 ;;
esac

before=$(readlink "$home/current" || :)
"$home/bin/make-venv"
# Another Python than before: whatever runs must leave the one that may soon be gone.
if [ -n "$before" ] && [ "$before" != "$(readlink "$home/current")" ]; then
    upgrade=yes
fi

if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    for unit in $services; do
        # The package is installed whatever becomes of the service.
        if [ -n "$upgrade" ] && ! systemctl try-restart "$unit"; then
            echo "hsm-shipper: $unit did not start again: see systemctl status $unit" >&2
        fi
    done
fi
if [ -z "$upgrade" ] && [ "${1-}" != triggered ]; then
    echo "hsm-shipper: say where Redis is in /etc/hsm-shipper/hsm-shipper.yaml, then: $start"
fi
# `apt --yes` does so.
if [ "$package" = hsm-action-tools ] && [ -n "$(ls /var/lib/hsm-shipper/*.sqlite3 2>/dev/null)" ]; then
    echo "hsm-shipper: the shipper was removed from this server. hsm-action-shipper has all tools: install it again" >&2
fi
for other in /usr/local/bin/hsm-action-* /usr/local/bin/hsm-stream-*; do
    if [ -e "$other" ] || [ -L "$other" ]; then
        echo "hsm-shipper: $other is not of this package, and comes first in most people's PATH: remove it" >&2
    fi
done
# Copied there by hand, for a shipper that pip installed or an earlier one. A link is a mask.
for unit in $units; do
    other=/etc/systemd/system/$unit
    if [ -f "$other" ] && [ ! -L "$other" ]; then
        echo "hsm-shipper: $other is not of this package, and hides its unit: remove it, then systemctl daemon-reload" >&2
    fi
done
