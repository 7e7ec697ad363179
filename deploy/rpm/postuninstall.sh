if [ -d /run/systemd/system ]; then
  systemctl daemon-reload >/dev/null 2>&1 || :
  # Upgraded: the new program runs from here on, if the old one did.
  if [ "$1" -ge 1 ]; then
    systemctl try-restart cow_exporter.service >/dev/null 2>&1 || :
  fi
fi
