"""Models of packages are no part of the tests: their packages are in an environment of their own."""

collect_ignore_glob = ["packages/*"]
