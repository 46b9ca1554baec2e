//! What is known of a lease, in a file for each: `stateDir/dhcp/CONTAINER,IFNAME`.
//!
//! The file is there from before the request for the address until DEL has given it back, and whoever holds the sandbox lock
//! writes it. It is replaced whole and not synced: a power cut takes the pod too.
//!
//! Times count from the boot of the node. The clock of the day may be set forth and back, and a lease is as long as it is.

use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use attachments::names::{ContainerId, IfName, Mac, NetworkName};
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::client::{Granted, Who};
use super::config::Wishes;
use super::terms::{FOREVER, Times};
use crate::boot;
use crate::call::Point;
use crate::error::{Error, Result};
use crate::nl::kept::Kept;
use crate::whole_file;

/// The directory below `stateDir`.
pub const DIRECTORY: &str = "dhcp";

/// The layout that is written, and the newest that is read.
const FORMAT: u32 = 1;

/// Whose lease: the name of its file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseName {
    /// The sandbox.
    pub container: ContainerId,
    /// The link in the pod.
    pub ifname: IfName,
}

impl LeaseName {
    /// That of an attachment.
    pub fn of(point: &Point<'_>) -> Self {
        Self { container: point.container.clone(), ifname: point.ifname.clone() }
    }

    /// Reads the name of a file; nothing where it is none of a lease.
    pub fn parse(text: &str) -> Option<Self> {
        let (container, ifname) = text.split_once(',')?;
        Some(Self { container: container.parse().ok()?, ifname: ifname.parse().ok()? })
    }

    fn path(&self, state_dir: &Path) -> PathBuf {
        state_dir.join(DIRECTORY).join(self.to_string())
    }

    /// Where the file is while it is being written.
    fn path_of_new(&self, state_dir: &Path) -> PathBuf {
        state_dir.join(DIRECTORY).join(format!(".{self}"))
    }
}

impl std::fmt::Display for LeaseName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{}", self.container, self.ifname)
    }
}

/// What there is of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The address was offered and is being requested: a server may have granted it.
    Offered,
    /// The pod has it.
    Bound,
    /// It is over, and the address was taken off the link.
    Lost,
}

/// One lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// The layout that the writer knows.
    pub format: u32,
    /// The network's name, which is part of the client's identifier.
    pub network: NetworkName,
    /// The sandbox.
    pub container: ContainerId,
    /// The link's name at the time of ADD.
    pub ifname: IfName,
    /// CNI_NETNS.
    pub netns: String,
    /// The link's index in the pod.
    pub link: u32,
    /// The link's hardware address at the time of ADD.
    pub mac: Mac,
    /// What the server is asked for and told.
    pub wishes: Wishes,
    /// Servers answer to everybody.
    pub broadcast: bool,
    /// Offered, bound or lost.
    pub state: State,
    /// The address in its subnet.
    pub address: Ipv4Net,
    /// Who granted it.
    pub server: Ipv4Addr,
    /// Where frames for the server go.
    pub server_mac: Mac,
    /// Seconds after which the server is asked to renew it, every server is, and it is over.
    pub renewal: u32,
    /// See `renewal`.
    pub rebinding: u32,
    /// See `renewal`; 4294967295: never.
    pub expiry: u32,
    /// The boot that `since` counts from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// When it was requested, in seconds from the boot.
    pub since: u64,
    /// Of a lost one: the routes that went with the address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Kept>,
}

/// Where in its life a lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is to be done.
    Fresh,
    /// The server is asked for more time.
    Renewing,
    /// Every server is.
    Rebinding,
    /// It is over.
    Expired,
}

/// The shortest pause between two tries (RFC 2131 section 4.4.5), of leases that are long enough.
const PAUSE: u64 = 60;

impl Lease {
    /// What is written of an offer for the link of an attachment.
    pub fn new(network: &NetworkName, point: &Point<'_>, link: u32, who: &Who, offer: &Granted) -> Result<Self> {
        let mut lease = Self {
            format: FORMAT,
            network: network.clone(),
            container: point.container.clone(),
            ifname: point.ifname.clone(),
            netns: point.netns.to_owned(),
            link,
            mac: who.mac,
            wishes: who.wishes.clone(),
            broadcast: who.broadcast,
            state: State::Offered,
            address: offer.terms.address,
            server: offer.terms.server,
            server_mac: offer.server_mac,
            renewal: 0,
            rebinding: 0,
            expiry: 0,
            boot: boot::current(),
            since: uptime()?,
            routes: Vec::new(),
        };
        lease.last(offer.terms.times, (offer.server_mac, offer.terms.server));
        Ok(lease)
    }

    /// Takes over who granted it and for how long; `since` is the caller's.
    pub fn last(&mut self, times: Times, server: (Mac, Ipv4Addr)) {
        (self.server_mac, self.server) = server;
        (self.renewal, self.rebinding, self.expiry) = (times.renewal, times.rebinding, times.expiry);
    }

    /// Who asks for it, by the hardware address that the link has now: servers know the lease by its identifier.
    pub fn who(&self, mac: Mac) -> Who {
        let id = Who::id(&self.container, &self.network, &self.ifname, &self.wishes);
        Who { mac, id, wishes: self.wishes.clone(), broadcast: self.broadcast }
    }

    /// The name of its file.
    pub fn name(&self) -> LeaseName {
        LeaseName { container: self.container.clone(), ifname: self.ifname.clone() }
    }

    /// Where it is in its life; of another boot it is over.
    pub fn phase(&self, uptime: u64) -> Phase {
        let age = uptime.saturating_sub(self.since);
        let is_past = |time: u32| time != FOREVER && age >= time.into();
        match self.boot == boot::current() {
            _ if self.state == State::Lost => Phase::Expired,
            false => Phase::Expired,
            true if is_past(self.expiry) => Phase::Expired,
            true if is_past(self.rebinding) => Phase::Rebinding,
            true if is_past(self.renewal) => Phase::Renewing,
            true => Phase::Fresh,
        }
    }

    /// Seconds until something is to be done; nothing for a lease that never ends.
    pub fn due(&self, uptime: u64) -> Option<u64> {
        match self.phase(uptime) {
            Phase::Fresh if self.renewal == FOREVER => None,
            Phase::Fresh => Some((self.since + u64::from(self.renewal)).saturating_sub(uptime)),
            _ => Some(0),
        }
    }

    /// Seconds until the next try after one that came to nothing: half of what is left to the next phase, a minute at least where the
    /// lease is that long.
    pub fn pause(&self, uptime: u64) -> u64 {
        let least = (u64::from(self.expiry) / 8).clamp(1, PAUSE);
        let until = |time: u32| (self.since + u64::from(time)).saturating_sub(uptime);
        match self.phase(uptime) {
            Phase::Fresh | Phase::Expired => least,
            Phase::Renewing => (until(self.rebinding) / 2).max(least).min(until(self.rebinding)),
            Phase::Rebinding => (until(self.expiry) / 2).max(least).min(until(self.expiry)),
        }
    }

    /// Writes its file.
    pub fn write(&self, state_dir: &Path) -> Result<()> {
        let name = self.name();
        whole_file::replace(&name.path(state_dir), &name.path_of_new(state_dir), self)
    }

    /// Reads a lease; nothing where there is none. One that cannot be read is an error.
    pub fn read(state_dir: &Path, name: &LeaseName) -> Result<Option<Self>> {
        let path = name.path(state_dir);
        let failed = || format!("read {}", path.display());
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(Error::io(failed()))?,
        };
        let lease: Self =
            serde_json::from_slice(&bytes).map_err(|error| Error::io(failed())(std::io::Error::other(error)))?;
        if lease.format > FORMAT || lease.name() != *name {
            let why = "it is not this lease's, or of a later version of this program";
            return Err(Error::io(failed())(std::io::Error::other(why)));
        }
        Ok(Some(lease))
    }

    /// Removes the file of a lease, and what a killed writer left of it.
    pub fn remove(state_dir: &Path, name: &LeaseName) -> Result<()> {
        whole_file::remove(&name.path(state_dir))?;
        whole_file::remove(&name.path_of_new(state_dir))
    }
}

/// The leases of a state directory.
pub fn names(state_dir: &Path) -> Vec<LeaseName> {
    // A directory that cannot be read has nothing for us to do.
    let entries = fs::read_dir(state_dir.join(DIRECTORY)).into_iter().flatten().flatten();
    let mut names: Vec<LeaseName> =
        entries.filter_map(|entry| LeaseName::parse(entry.file_name().to_str()?.trim_start_matches('.'))).collect();
    names.sort();
    names.dedup();
    names
}

/// Seconds since the boot of the node, sleep included.
pub fn uptime() -> Result<u64> {
    const FILE: &str = "/proc/uptime";
    let text = fs::read_to_string(FILE).map_err(Error::io(format!("read {FILE}")))?;
    let seconds = text.split('.').next().and_then(|seconds| seconds.parse().ok());
    seconds.ok_or_else(|| Error::io(format!("read {FILE}"))(std::io::Error::other(format!("got {text:?}"))))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::terms::Terms;
    use super::*;

    pub fn granted(seconds: [u32; 3]) -> Granted {
        let [renewal, rebinding, expiry] = seconds;
        let terms = Terms {
            address: "10.9.0.7/24".parse().unwrap(),
            gateway: None,
            routes: Vec::new(),
            server: Ipv4Addr::new(10, 9, 0, 1),
            times: Times { renewal, rebinding, expiry },
        };
        Granted { terms, server_mac: Mac([2, 0, 0, 0, 0, 1]) }
    }

    pub fn lease(seconds: [u32; 3]) -> Lease {
        let (container, ifname) = ("c1".parse().unwrap(), "net1".parse().unwrap());
        let point = Point { container: &container, netns: "/run/netns/x", ifname: &ifname, args: "", group: 0 };
        let who = Who { mac: Mac([2, 0, 0, 0, 0, 9]), id: Vec::new(), wishes: Wishes::default(), broadcast: false };
        let lease = Lease::new(&"lan".parse().unwrap(), &point, 7, &who, &granted(seconds)).unwrap();
        Lease { state: State::Bound, since: 1000, ..lease }
    }

    #[test]
    fn a_lease_goes_through_its_phases_by_the_clock_of_the_boot() {
        let lease = lease([60, 105, 120]);
        let at = |uptime: u64| (lease.phase(uptime), lease.due(uptime), lease.pause(uptime));
        assert_eq!(at(999), (Phase::Fresh, Some(61), 15), "a clock cannot go back, and does no harm");
        assert_eq!(at(1059), (Phase::Fresh, Some(1), 15));
        assert_eq!(at(1060), (Phase::Renewing, Some(0), 22));
        assert_eq!(at(1100), (Phase::Renewing, Some(0), 5));
        assert_eq!(at(1105), (Phase::Rebinding, Some(0), 15));
        assert_eq!(at(1120), (Phase::Expired, Some(0), 15));
        let earlier = Lease { boot: Some("another".to_owned()), ..lease.clone() };
        assert_eq!(earlier.phase(1001), Phase::Expired);
        assert_eq!(Lease { state: State::Lost, ..lease }.phase(1001), Phase::Expired);
        let long = self::lease([FOREVER; 3]);
        assert_eq!((long.phase(u64::MAX), long.due(1 << 40)), (Phase::Fresh, None));
    }

    #[test]
    fn the_file_is_whole_or_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let lease = lease([60, 105, 120]);
        let name = lease.name();
        assert_eq!(Lease::read(dir.path(), &name).unwrap(), None);
        lease.write(dir.path()).unwrap();
        assert_eq!(Lease::read(dir.path(), &name).unwrap(), Some(lease.clone()));
        let file = dir.path().join("dhcp/c1,net1");
        fs::write(dir.path().join("dhcp/.c1,net1"), "{").unwrap();
        assert_eq!(names(dir.path()), std::slice::from_ref(&name));
        for (text, why) in [
            ("{\"format\":", "EOF"),
            (&serde_json::to_string(&lease).unwrap().replace("\"format\":1", "\"format\":2"), "later version"),
            (&serde_json::to_string(&lease).unwrap().replace("\"c1\"", "\"c2\""), "not this lease's"),
        ] {
            fs::write(&file, text).unwrap();
            let error = Lease::read(dir.path(), &name).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("dhcp/c1,net1"), "{error}");
        }
        Lease::remove(dir.path(), &name).unwrap();
        Lease::remove(dir.path(), &name).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("dhcp")).unwrap().count(), 0);
    }

    #[test]
    fn names_of_other_files_are_none() {
        for text in ["", "c1", "c1,", ",net1", "c1,a/b", "c/1,net1"] {
            assert_eq!(LeaseName::parse(text), None, "{text:?}");
        }
    }
}
