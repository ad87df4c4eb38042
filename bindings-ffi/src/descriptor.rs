//! A level-triggered descriptor that a program can wait for in its own loop.

use peerage::{Error, Result};

/// Readable while it is raised.
pub(crate) struct Descriptor {
    #[cfg(unix)]
    read: std::os::fd::OwnedFd,
    /// The other end, where the system has no eventfd.
    #[cfg(all(unix, not(target_os = "linux")))]
    write: std::os::fd::OwnedFd,
}

#[cfg(unix)]
impl Descriptor {
    #[cfg(target_os = "linux")]
    pub(crate) fn new() -> Result<Self> {
        use std::os::fd::{FromRawFd, OwnedFd};
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(failed());
        }
        // SAFETY: it is open, and nobody else has it.
        Ok(Self { read: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn new() -> Result<Self> {
        use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
        let mut ends = [0; 2];
        // SAFETY: the array has room for both ends.
        if unsafe { libc::pipe(ends.as_mut_ptr()) } < 0 {
            return Err(failed());
        }
        // SAFETY: they are open, and nobody else has them.
        let [read, write] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        for end in [&read, &write] {
            // SAFETY: no pointers are passed.
            let done = unsafe {
                libc::fcntl(end.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) >= 0
                    && libc::fcntl(end.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) >= 0
            };
            if !done {
                return Err(failed());
            }
        }
        Ok(Self { read, write })
    }

    pub(crate) fn number(&self) -> i32 {
        use std::os::fd::AsRawFd;
        self.read.as_raw_fd()
    }

    /// Makes it readable; called once before each `clear`.
    pub(crate) fn raise(&self) {
        use std::os::fd::AsRawFd;
        #[cfg(target_os = "linux")]
        let end = &self.read;
        #[cfg(not(target_os = "linux"))]
        let end = &self.write;
        let one = 1u64.to_ne_bytes();
        // SAFETY: the buffer is as long as is said. It cannot block or be full: at most one
        // write is ever unread.
        unsafe { libc::write(end.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    pub(crate) fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: the buffer is as long as is said. It never blocks.
        unsafe { libc::read(self.number(), count.as_mut_ptr().cast(), count.len()) };
    }
}

#[cfg(not(unix))]
impl Descriptor {
    pub(crate) fn new() -> Result<Self> {
        Err(failed())
    }

    pub(crate) fn number(&self) -> i32 {
        -1
    }

    pub(crate) fn raise(&self) {}

    pub(crate) fn clear(&self) {}
}

fn failed() -> Error {
    Error::Internal(format!("no descriptor to be had: {}", std::io::Error::last_os_error()))
}
