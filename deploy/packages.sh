# shellcheck shell=bash
# Lists the build packages, by names that Debian 12 and 13 both have, and installs packages. Source this file.

# Packages to build the exporter. tests/packages.sh lists those that only the tests need.
# shellcheck disable=SC2034  # used by the scripts that source this file
build_packages=(
  build-essential cmake file ninja-build pkg-config
  libexpected-dev libmicrohttpd-dev libyaml-cpp-dev prometheus-cpp-dev libcli11-dev libspdlog-dev libnl-genl-3-dev
  nlohmann-json3-dev libre2-dev zlib1g-dev libgnutls28-dev libcrypt-dev libsystemd-dev libutfcpp-dev
  libxxhash-dev libseccomp-dev libcap-dev libdw-dev libprotobuf-dev protobuf-compiler
)

readonly policy=/usr/sbin/policy-rc.d
readonly policy_saved=/usr/sbin/policy-rc.d.cow-exporter-saved
readonly policy_mark='# temporary, of cow_exporter: no service is started by an installation'

as_root() {
  if [[ $EUID -eq 0 ]]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    echo "$0: installing packages needs root: run as root or install sudo" >&2
    return 1
  fi
}

# Restores the host's own policy, also after a killed run. Never touches files of others.
restore_policy() {
  if [[ -e $policy ]] && grep -qxF "$policy_mark" "$policy"; then
    as_root rm -f "$policy"
  fi
  if [[ -e $policy_saved ]]; then
    as_root mv -f "$policy_saved" "$policy"
  fi
}

# Debian starts the services of a package after installation unless this policy exits with 101. Keeps a policy that
# does.
forbid_service_starts() {
  restore_policy
  if [[ -e $policy ]]; then
    local verdict=0
    as_root "$policy" cow-exporter-probe start >/dev/null 2>&1 || verdict=$?
    if [[ $verdict -eq 101 ]]; then
      return
    fi
    as_root mv "$policy" "$policy_saved"
  fi
  printf '#!/bin/sh\n%s\nexit 101\n' "$policy_mark" | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
}

missing_packages() {
  local package
  for package in "$@"; do
    if [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) != installed ]]; then
      echo "$package"
    fi
  done
}

# install_packages NAME...: installs missing packages. Needs root only if one is missing.
install_packages() {
  local missing
  mapfile -t missing < <(missing_packages "$@")
  if [[ ${#missing[@]} -eq 0 ]]; then
    return
  fi
  echo "Installing ${missing[*]}"
  # A subshell, so that the traps do not reach the caller.
  (
    trap restore_policy EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    forbid_service_starts
    as_root apt-get -q -o DPkg::Lock::Timeout=300 update
    as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -q -y --no-install-recommends \
      -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
      install "${missing[@]}" </dev/null
  )
}

# Prints where apt gets a label's packages from on this machine. Fails without such a source, and before the first apt-get
# update.
apt_source() {
  local uri
  # shellcheck disable=SC2016  # apt's own placeholder
  uri=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' "Label: $1" 2>/dev/null | head -n 1)
  if [[ -z $uri ]]; then
    echo "no source of apt here is $1, or apt-get update was never run" >&2
    return 1
  fi
  echo "${uri%/}"
}

debian_mirror() {
  apt_source Debian
}

debian_security_mirror() {
  apt_source Debian-Security
}
