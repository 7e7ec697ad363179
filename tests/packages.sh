# shellcheck shell=bash
# What the tests need besides deploy/packages.sh, by names that Debian 12 and 13 both have; sourced by tests/run.
# shellcheck disable=SC2034  # used by those who source this

test_packages=(
  libgtest-dev
  python3-dbg
  prometheus prometheus-node-exporter prometheus-process-exporter redis-server redis-tools
  prometheus-alertmanager apache2-bin gunicorn php-fpm postgresql puma unicorn
  chromium clang cmark-gfm clang-format clang-tidy libclang-rt-dev curl fonts-dejavu-core jq jsonnet libcap2-bin linux-perf node-typescript openssl procps python3
  python3-prometheus-client python3-yaml strace systemd
  qemu-system-x86 cpio busybox-static
  e2fsprogs git lintian man-db mmdebstrap rpm runc shellcheck umoci
)
# Any Node.js there is will do; Debian's npm brings hundreds of packages.
if ! command -v npm >/dev/null; then test_packages+=(nodejs npm); fi
