//! What needs an API server and no node: etcd and kube-apiserver, both real.

mod harness;
