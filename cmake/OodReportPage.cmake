# The HTML report is one file: its page, style and scripts are compiled into the library as they lie in
# src/report_page/, and Chart.js as it lies in the system.
function(ood_embed name file)
  file(READ "${file}" text)
  if(text MATCHES "[)]ood-page\"")
    message(FATAL_ERROR "${file} holds )ood-page\", which ends the literal that it becomes")
  endif()
  set(${name} "${text}" PARENT_SCOPE)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${file}")
endfunction()

ood_embed(OOD_PAGE_HTML "${PROJECT_SOURCE_DIR}/src/report_page/page.html")
ood_embed(OOD_PAGE_CSS "${PROJECT_SOURCE_DIR}/src/report_page/page.css")
ood_embed(OOD_PAGE_JS "${PROJECT_SOURCE_DIR}/src/report_page/page.js")
ood_embed(OOD_PAGE_CHART_JS "${OOD_CHART_JS}")
set(OOD_REPORT_PAGE_PARTS "${PROJECT_BINARY_DIR}/src/report_page_parts.cc")
configure_file("${PROJECT_SOURCE_DIR}/cmake/report_page_parts.cc.in" "${OOD_REPORT_PAGE_PARTS}" @ONLY)
