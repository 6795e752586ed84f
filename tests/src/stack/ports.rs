//! Free loopback ports.
//!
//! A port is free when it is picked, not for ever: another program may take it before ours listens.
//! So whoever starts a program on picked ports starts it again on others when it ends at once.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex};

use super::error::StackError;
use super::locked;

/// Given out in this process: the system may name the same port twice before it is listened on.
static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// A port on 127.0.0.1 that nothing listens on and that this process has not given out before.
///
/// # Errors
/// When no socket can be bound.
pub(crate) fn free() -> Result<u16, StackError> {
    let mut last = 0;
    for _ in 0..64 {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(StackError::io("bind a free port"))?;
        last = listener.local_addr().map_err(StackError::io("read a socket's address"))?.port();
        if locked(&GIVEN).insert(last) {
            return Ok(last);
        }
    }
    Ok(last)
}
