"""Every HTML page: report, comparison, dataset check and viewer."""
