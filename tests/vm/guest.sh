#!/bin/bash
# Runs inside the virtual machine, once, at the end of its boot. /dev/vdb is a tar of the sources and
# of `plan` (USER and pytest's words); /dev/vdc takes the tar of results; the console is for people.
exec >/dev/ttyS0 2>&1 </dev/null
stty -F /dev/ttyS0 -onlcr
device=$(ls /sys/class/net | grep -v '^lo$' | head -1)
if [ -n "$device" ]; then
  ip link set "$device" up
  ip addr add 10.0.2.15/24 dev "$device"
  ip route add default via 10.0.2.2
  echo nameserver 10.0.2.3 >/etc/resolv.conf
fi
ip link set lo up
mkdir -p /lab && tar -xf /dev/vdb -C /lab && . /lab/plan
mkdir -m 1777 -p /lab/out && chown -R "$LAB_USER:" /lab/src /lab/out
echo LAB-BEGIN
if [ "$LAB_USER" = root ]; then
  (cd /lab/src && HOME=/root bash /lab/command)
  status=$?
else
  # What an administrator does for a class: every controller for user sessions, and a session that
  # is there without a login. Without the first, Debian gives memory and pids only.
  if [ "$LAB_DELEGATE" = 1 ]; then
    mkdir -p /etc/systemd/system/user@.service.d
    printf '[Service]\nDelegate=cpu cpuset io memory pids\n' >/etc/systemd/system/user@.service.d/delegate.conf
    systemctl daemon-reload
  fi
  loginctl enable-linger "$LAB_USER"
  for _ in $(seq 60); do [ -S "/run/user/$(id -u "$LAB_USER")/bus" ] && break; sleep 1; done
  systemd-run --quiet --wait --pipe --user --machine="$LAB_USER@.host" \
    -p WorkingDirectory=/lab/src bash /lab/command </dev/null 2>&1 | cat
  status=${PIPESTATUS[0]}
fi
tar -cf /dev/vdc -C /lab/out . 2>/dev/null
echo
echo "LAB-STATUS=$status"
sync
systemctl poweroff --force --force
