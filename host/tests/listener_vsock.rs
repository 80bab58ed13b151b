//! vsock, as far as the machine's kernel has it: without a virtual machine only with the module `vsock_loopback`.

mod common;

use std::{io, sync::Arc};

use common::{
    ROOT,
    gated::Gated,
    raw::{is_closed, next, send},
    serving::PATIENCE,
};
use ninering::{
    listener::{Address, Listener},
    server::{Server, ServerOptions},
};
use ninering_wire::{NOFID, NONUNAME, NOTAG, Str, Tmessage, VERSION_9P2000L};
use socket2::{Domain, SockAddr, Socket, Type};

/// The machine itself, by its module for loopback.
const LOOPBACK: u32 = 1;

async fn bind(address: &str) -> io::Result<Listener> {
    Listener::bind(&address.parse().unwrap()).await
}

/// Listens at any free port (the largest number); none where the kernel has no vsock.
async fn listener() -> Option<(Listener, u32)> {
    match bind(&format!("vsock://any:{}", u32::MAX)).await {
        Ok(listener) => {
            let Address::Vsock { port, .. } = *listener.local_address() else { panic!("a vsock address") };
            Some((listener, port))
        }
        Err(error) => {
            assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
            assert_eq!(error.to_string(), "the kernel has no vsock: is its module 'vsock' there?");
            eprintln!("skipped: {error}");
            None
        }
    }
}

#[tokio::test]
async fn clients_are_served() {
    let Some((listener, port)) = listener().await else { return };
    let socket = Socket::new(Domain::VSOCK, Type::STREAM, None).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = Server::new(Arc::new(Gated::default()), ServerOptions::default());
    let serving = tokio::spawn(listener.serve(server, stopped));
    let client = tokio::task::spawn_blocking(move || {
        if let Err(error) = socket.connect(&SockAddr::vsock(LOOPBACK, port)) {
            eprintln!("skipped: this kernel has no loopback for vsock: {error}");
            return;
        }
        let version = Tmessage::Tversion { msize: 1 << 16, version: Str(VERSION_9P2000L) };
        send(&mut &socket, NOTAG, &version);
        assert_eq!(next(&mut &socket), (NOTAG, "Rversion"));
        let (uname, aname) = (Str(b""), Str(b""));
        send(&mut &socket, 1, &Tmessage::Tattach { fid: ROOT, afid: NOFID, uname, aname, n_uname: NONUNAME });
        assert_eq!(next(&mut &socket), (1, "Rattach"));
        drop(stop);
        assert!(is_closed(&mut &socket));
    });
    client.await.unwrap();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_port_that_is_taken_is_in_use() {
    let Some((_listener, port)) = listener().await else { return };
    let error = bind(&format!("vsock://any:{port}")).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_context_of_another_machine_is_told() {
    let Some((_listener, port)) = listener().await else { return };
    let error = bind(&format!("vsock://4000000000:{port}")).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    let text = format!("4000000000 is no context of this machine; vsock://any:{port} is all that it has");
    assert_eq!(error.to_string(), text);
}
