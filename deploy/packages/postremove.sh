#!/bin/sh
# dpkg: `remove`, `purge`, `upgrade VERSION`, … rpm: how many stay installed.
set -eu
home=/opt/hsm-shipper
case "${1-}" in
remove | purge | 0) ;;
*) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
fi
# Still there where the other package has taken over.
if [ ! -e "$home/bin/make-venv" ]; then
    rm -rf "$home/venvs" "$home/current"
    rmdir "$home" 2>/dev/null || :
fi
if [ "$1" != purge ] && [ -n "$(ls -A /var/lib/hsm-shipper 2>/dev/null)" ]; then
    echo "hsm-shipper: /var/lib/hsm-shipper is left as it is; the streams know all that is in it but what waits for Redis"
fi
