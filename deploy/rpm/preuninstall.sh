# Removal ($1 = 0), not an upgrade.
if [ "$1" -eq 0 ] && [ -x /usr/bin/systemctl ]; then
  systemctl --no-reload disable --now cow_exporter.socket cow_exporter-netlink.socket cow_exporter.service >/dev/null 2>&1 || :
fi
