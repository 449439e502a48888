"""What the `slipway` command does: prepare a host, run the platform's processes, stop and test them.

Stdlib only, so that it runs with the system's Python before anything is installed; the one exception,
`teardown`, runs inside the virtual environment.
"""
