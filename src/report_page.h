/// The parts of the HTML report: the files of src/report_page/ and Chart.js (cmake/OodReportPage.cmake).
#pragma once

#include <string_view>

namespace ood::report_page {

/// With <!--css-->, <!--chart.js-->, <!--data--> and <!--js--> where the others belong.
extern const std::string_view kHtml;
extern const std::string_view kCss;
extern const std::string_view kJs;
extern const std::string_view kChartJs;

}  // namespace ood::report_page
