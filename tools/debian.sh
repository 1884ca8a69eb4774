#!/bin/sh
# Installs the Debian packages a task needs, if they are missing. Usage: tools/debian.sh setup|test
set -eu
case $1 in
setup) packages="python3 python3-venv" ;;
# a real broker; a private D-Bus with mock BlueZ; unit checks; a process tracer for disk faults
test) packages="mosquitto mosquitto-clients dbus python3-dbus python3-dbusmock systemd strace" ;;
*) echo "usage: tools/debian.sh setup|test" >&2; exit 2 ;;
esac
missing=
for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
command -v apt-get >/dev/null 2>&1 || { echo "Please install:$missing" >&2; exit 1; }
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "Installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # the lists are meant to split
$sudo apt-get -qq update && $sudo apt-get -qq install --no-install-recommends -y $missing >/dev/null
