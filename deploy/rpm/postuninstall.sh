if [ -d /run/systemd/system ]; then
  systemctl daemon-reload >/dev/null 2>&1 || :
  # Upgrade ($1 = 1): restart the service with the new program if it runs.
  if [ "$1" -ge 1 ]; then
    systemctl try-restart cow_exporter.service >/dev/null 2>&1 || :
  fi
fi
