# Read by cpack for each generator: how the packages of Debian and of RPM differ. With SOURCE_DATE_EPOCH equal inputs
# give equal packages.
set(CPACK_PACKAGE_DESCRIPTION
"Processes that fork share their memory until someone writes. This exporter
reads page tables and tells Prometheus, for each service, how much memory that
saves, how fast it is being lost, by which side of the fork and in which
mappings: what a Redis BGSAVE costs, what preloading gains for prefork servers.
It attaches to no process and stops none.")

function(components)
  set(projects)
  foreach(component ${ARGN})
    list(APPEND projects ${CPACK_COW_BUILD} cow_exporter ${component} /)
  endforeach()
  set(CPACK_INSTALL_CMAKE_PROJECTS ${projects} PARENT_SCOPE)
endfunction()

if(CPACK_GENERATOR STREQUAL DEB)
  components(runtime service debian)
  set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
  set(CPACK_DEBIAN_PACKAGE_SECTION net)
  set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
  set(CPACK_DEBIAN_PACKAGE_DEPENDS procps)  # has /bin/kill, by which the service is reloaded
  set(CPACK_DEBIAN_PACKAGE_SUGGESTS "prometheus, jsonnet")
  set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
  # cpack -D CPACK_COW_DEBUG_SYMBOLS=ON: puts debug symbols of a program built with them into a second package.
  if(CPACK_COW_DEBUG_SYMBOLS)
    set(CPACK_DEBIAN_DEBUGINFO_PACKAGE ON)
    set(CPACK_STRIP_FILES OFF)
  endif()
  set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
  foreach(name conffiles postinst prerm postrm)
    list(APPEND CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${CPACK_COW_SOURCE}/debian/${name})
  endforeach()
elseif(CPACK_GENERATOR STREQUAL RPM)
  components(runtime service-rpm license)
  set(CPACK_RPM_FILE_NAME RPM-DEFAULT)
  set(CPACK_RPM_PACKAGE_LICENSE Apache-2.0)
  set(CPACK_RPM_PACKAGE_GROUP "Applications/System")
  set(CPACK_RPM_PACKAGE_DESCRIPTION "${CPACK_PACKAGE_DESCRIPTION}")
  set(CPACK_RPM_PACKAGE_AUTOREQPROV ON)
  set(CPACK_RPM_PACKAGE_RELOCATABLE OFF)
  set(CPACK_RPM_SPEC_MORE_DEFINE "%define _build_id_links none
%define packager ${CPACK_PACKAGE_CONTACT}
%define _buildhost localhost
%define use_source_date_epoch_as_buildtime 1
%define clamp_mtime_to_source_date_epoch 1")
  set(CPACK_RPM_POST_INSTALL_SCRIPT_FILE ${CPACK_COW_SOURCE}/rpm/postinstall.sh)
  set(CPACK_RPM_PRE_UNINSTALL_SCRIPT_FILE ${CPACK_COW_SOURCE}/rpm/preuninstall.sh)
  set(CPACK_RPM_POST_UNINSTALL_SCRIPT_FILE ${CPACK_COW_SOURCE}/rpm/postuninstall.sh)
  set(CPACK_RPM_USER_FILELIST "%config(noreplace) /etc/cow_exporter/config.yml" "%config(noreplace) /etc/default/cow_exporter"
      "%license /usr/share/doc/cow-exporter/LICENSE")
  set(CPACK_RPM_EXCLUDE_FROM_AUTO_FILELIST_ADDITION /etc /etc/default /lib /usr/lib/systemd /usr/lib/systemd/system /usr/share/man
      /usr/share/man/man1 /usr/share/bash-completion /usr/share/bash-completion/completions)
endif()
