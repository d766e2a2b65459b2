"""Where states and artifacts are kept: plugs for the store sockets of `looopy.ports`."""
