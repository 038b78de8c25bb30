#!/bin/sh
# dpkg: `remove [in-favour PACKAGE VERSION]`, `upgrade VERSION`, … rpm: how many stay installed.
set -eu
package="@PACKAGE@"
units="@UNITS@"
case "${1-}" in
remove | 0) ;;
*) exit 0 ;;
esac
# The other package is taking over: what runs goes on.
if [ "$package" = hsm-action-tools ] && { [ "${2-}" = in-favour ] || [ -e /usr/bin/hsm-action-shipper ]; }; then
    exit 0
fi
if [ -d /run/systemd/system ]; then
    for unit in $units; do
        systemctl disable --now "$unit" || :
    done
fi
