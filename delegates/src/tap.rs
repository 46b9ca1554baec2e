//! TAP devices: links whose other end is a file. rtnetlink changes them and removes them, but only the file makes them
//! (Linux, Documentation/networking/tuntap.rst).

#![expect(
    unsafe_code,
    reason = "neither nix nor rustix wraps the ioctls of /dev/net/tun; nothing else makes a TAP device"
)]

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;

use attachments::names::IfName;
use nix::libc::{IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TAP, IFF_TUN_EXCL, IFNAMSIZ, c_int, c_short};

use crate::error::{Error, Result};

/// What makes TAP devices.
pub const DEVICE: &str = "/dev/net/tun";

/// TUNSETIFF reads a `struct ifreq` (netdevice(7)): a name, and a union of 24 bytes that begins with the flags.
#[repr(C)]
struct Request {
    name: [u8; IFNAMSIZ],
    flags: c_short,
    rest: [u8; 22],
}

mod ioctl {
    use super::c_int;

    // The kernel calls the argument an int, and reads what it points to as a `struct ifreq`.
    nix::ioctl_write_ptr!(set_iff, b'T', 202, c_int);
    nix::ioctl_write_int!(set_persist, b'T', 203);
    nix::ioctl_write_int!(set_owner, b'T', 204);
    nix::ioctl_write_int!(set_group, b'T', 206);
}

/// A TAP device that goes with this value, unless it is kept.
pub struct Tap {
    file: File,
}

impl Tap {
    /// Makes one in the thread's network namespace, down. EBUSY or EINVAL when the name is taken.
    ///
    /// With `multi_queue` several files can be its other end, and only those that ask for it.
    pub fn make(name: &IfName, multi_queue: bool) -> Result<Self> {
        let file = open().map_err(Error::io(format!("open {DEVICE}")))?;
        let queues = if multi_queue { IFF_MULTI_QUEUE } else { 0 };
        let made = become_end_of(&file, name, IFF_TUN_EXCL | queues);
        made.map_err(Error::kernel(format!("make TAP device {name}")))?;
        Ok(Self { file })
    }

    /// Says which user, and which group, may be its other end without CAP_NET_ADMIN.
    pub fn give(&self, user: Option<u32>, group: Option<u32>) -> Result<()> {
        let descriptor = self.file.as_raw_fd();
        if let Some(user) = user {
            // SAFETY: the descriptor is open, and the argument is a number.
            unsafe { ioctl::set_owner(descriptor, user.into()) }
                .map_err(Error::kernel(format!("give a TAP device to user {user}")))?;
        }
        if let Some(group) = group {
            // SAFETY: the descriptor is open, and the argument is a number.
            unsafe { ioctl::set_group(descriptor, group.into()) }
                .map_err(Error::kernel(format!("give a TAP device to group {group}")))?;
        }
        Ok(())
    }

    /// The device stays, until its link is deleted.
    pub fn keep(self) -> Result<()> {
        // SAFETY: the descriptor is open, and the argument is a number.
        unsafe { ioctl::set_persist(self.file.as_raw_fd(), 1) }
            .map_err(Error::kernel("keep a TAP device".to_owned()))?;
        Ok(())
    }
}

/// Can devices be made? [`Error::NotReady`] says what is missing.
pub fn probe() -> Result<()> {
    open().map(drop).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            Error::NotReady(format!("{DEVICE} is missing: the kernel has no driver for TAP devices"))
        }
        _ => Error::NotReady(format!("open {DEVICE}: {error}")),
    })
}

/// Makes the file the other end of a device, which is made unless it is there.
fn become_end_of(file: &File, name: &IfName, flags: c_int) -> nix::Result<c_int> {
    // The flag of the highest bit makes the number negative: the kernel takes its bits.
    let flags = (IFF_TAP | IFF_NO_PI | flags) as c_short;
    let mut request = Request { name: [0; IFNAMSIZ], flags, rest: [0; 22] };
    // A name has less than IFNAMSIZ bytes.
    request.name.iter_mut().zip(name.as_str().bytes()).for_each(|(to, from)| *to = from);
    // SAFETY: the descriptor is open, and `request` has the layout and the size that the kernel reads.
    unsafe { ioctl::set_iff(file.as_raw_fd(), (&raw const request).cast::<c_int>()) }
}

fn open() -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).open(DEVICE)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// The other end of a device of the thread's namespace, as a program has it.
    pub(crate) fn end_of(name: &IfName, multi_queue: bool) -> nix::Result<File> {
        let file = open().unwrap();
        become_end_of(&file, name, if multi_queue { IFF_MULTI_QUEUE } else { 0 }).map(|_| file)
    }
}
