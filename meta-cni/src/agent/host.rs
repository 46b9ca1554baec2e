//! The one place where the agent starts a program: the plugin, in the host's mount namespace. Being built.
