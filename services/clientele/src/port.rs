use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use socket2::{Domain, Socket, Type};

/// A port of this machine that is kept for one process. While this lives the system gives it to nobody else, not even to
/// an outgoing connection, and who asks for it by its number gets it.
pub struct Port {
    address: SocketAddr,
    /// Bound, but never listened on: Linux lets another socket listen at an address that one has bound, if both say that
    /// it may be used again, as every server does.
    _kept: Socket,
}

impl Port {
    /// Keeps one.
    pub fn keep() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket.local_addr()?.as_socket().expect("an internet address was bound");
        Ok(Self { address, _kept: socket })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.address.port()
    }
}
