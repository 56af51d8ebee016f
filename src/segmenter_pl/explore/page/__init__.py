"""The page, sent as it is: HTML, CSS and JavaScript modules, without a build step and without a library."""
