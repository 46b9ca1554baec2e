//! Where metrics are read: an address and a port, or a unix socket.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::serve::replace_socket;

/// Before the path of a unix socket.
const UNIX: &str = "unix:";
/// Whoever may enter the socket's directory may read.
const MODE: u32 = 0o666;

/// `--metrics-address`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MetricsAddress {
    /// Metrics are not served.
    #[default]
    Nowhere,
    /// An address and a port.
    Tcp(SocketAddr),
    /// `unix:PATH`.
    Unix(PathBuf),
}

impl FromStr for MetricsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("got {text:?}, want an address and a port, as [::]:9464, unix:PATH, or nothing");
        match text.strip_prefix(UNIX).map(Path::new) {
            Some(path) if path.is_absolute() && path.file_name().is_some() => Ok(Self::Unix(path.to_owned())),
            Some(_) => Err(format!("got {text:?}, want an absolute path of a socket behind {UNIX}")),
            None if text.is_empty() => Ok(Self::Nowhere),
            None => text.parse().map(Self::Tcp).map_err(|_| wrong()),
        }
    }
}

/// A listener, of either kind.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection, of either kind.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Listens on an address; a node without IPv6 has no `[::]`, and means all of its addresses by it.
    pub async fn tcp(address: SocketAddr) -> io::Result<Self> {
        match TcpListener::bind(address).await {
            Err(error) if address.is_ipv6() && address.ip().is_unspecified() && is_without_ipv6(&error) => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
            }
            bound => bound,
        }
        .map(Self::Tcp)
    }

    /// Listens at a path, in the place of whoever listens there: an agent that is upgraded. What is no socket there stays.
    pub fn unix(path: &Path) -> io::Result<Self> {
        if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "there is something else, want a socket or nothing",
            ));
        }
        replace_socket(path, MODE).map(Self::Unix)
    }

    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    let no = [nix::libc::EAFNOSUPPORT, nix::libc::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| no.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_port_or_a_path_and_may_be_absent() {
        let read = |text: &str| text.parse::<MetricsAddress>();
        assert_eq!(read(""), Ok(MetricsAddress::Nowhere));
        assert_eq!(read("[::]:9464"), Ok(MetricsAddress::Tcp("[::]:9464".parse().unwrap())));
        assert_eq!(read("unix:/run/m.sock"), Ok(MetricsAddress::Unix("/run/m.sock".into())));
        for (bad, want) in [
            ("9464", "want an address and a port"),
            ("localhost:9464", "want an address and a port"),
            ("::", "want an address and a port"),
            ("127.0.0.1:70000", "want an address and a port"),
            ("/run/m.sock", "unix:PATH"),
            ("unix:", "want an absolute path"),
            ("unix:m.sock", "want an absolute path"),
            ("unix:/", "want an absolute path"),
        ] {
            let refusal = read(bad).unwrap_err();
            assert!(refusal.contains(&format!("got {bad:?}")) && refusal.contains(want), "{refusal}");
        }
    }

    #[tokio::test]
    async fn a_file_in_the_place_of_a_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.sock");
        fs::write(&path, "text").unwrap();
        assert!(Listener::unix(&path).unwrap_err().to_string().contains("want a socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        fs::remove_file(&path).unwrap();
        Listener::unix(&path).unwrap();
        // Its predecessor's.
        Listener::unix(&path).unwrap();
    }
}
