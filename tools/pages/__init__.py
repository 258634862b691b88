"""Many pages to look at: every kind of report, of many models and scripts, checked in a browser."""
