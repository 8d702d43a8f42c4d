//! The address of a Service: it leads every new connection to one of the pods that are ready, by turns.
//!
//! A connection stays where it is until one of its ends closes it, also while its pod ends.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::cluster::{Pods, Simulation};
use super::tls::Tls;

/// Between two looks for a new connection.
const LOOK: Duration = Duration::from_millis(10);
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

impl Simulation {
    /// An address of this host that leads to a port of the pods that a Service selects, those that are ready and not
    /// about to end. It refuses nobody: a connection that finds no pod is closed. It is there as long as the simulation.
    pub fn expose(&self, service: &str, port: u16) -> Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let pods = self.watch(service);
        thread::spawn(move || serve(&listener, &pods, port));
        Ok(address)
    }

    /// The same for a port that speaks TLS: whoever connects to the address speaks plainly. It needs a runtime.
    pub fn expose_tls(&self, service: &str, port: u16, tls: Tls) -> Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        tokio::spawn(serve_tls(listener, self.watch(service), port, tls));
        Ok(address)
    }
}

async fn serve_tls(listener: tokio::net::TcpListener, pods: Pods, port: u16, tls: Tls) {
    for turn in 0_usize.. {
        let mut client = loop {
            if pods.are_over() {
                return;
            }
            if let Ok(Ok((client, _))) = tokio::time::timeout(LOOK, listener.accept()).await {
                break client;
            }
        };
        let (pods, tls) = (pods.clone(), tls.clone());
        tokio::spawn(async move {
            // The controllers may have the pods for a moment.
            let ready = tokio::task::spawn_blocking(move || pods.ready()).await;
            let ready = ready.unwrap_or_default();
            let Some(pod) = ready.get(turn % ready.len().max(1)) else {
                return;
            };
            let _ = client.set_nodelay(true);
            if let Ok(mut server) = tls.connect(SocketAddr::from((*pod, port))).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

fn serve(listener: &TcpListener, pods: &Pods, port: u16) {
    for turn in 0_usize.. {
        let client = loop {
            if pods.are_over() {
                return;
            }
            match listener.accept() {
                Ok((client, _)) => break client,
                Err(_) => thread::sleep(LOOK),
            }
        };
        let pods = pods.clone();
        thread::spawn(move || {
            let ready = pods.ready();
            let Some(pod) = ready.get(turn % ready.len().max(1)) else {
                return;
            };
            let door = SocketAddr::from((*pod, port));
            if let Ok(server) = TcpStream::connect_timeout(&door, CONNECT_LIMIT) {
                let _ = join(client, server);
            }
        });
    }
}

/// Carries bytes both ways until one end closes.
fn join(client: TcpStream, server: TcpStream) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client, server) = (Arc::new(client), Arc::new(server));
    let (from, to) = (Arc::clone(&server), Arc::clone(&client));
    let back = thread::spawn(move || carry(&from, &to));
    carry(&client, &server);
    let _ = back.join();
    Ok(())
}

fn carry(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from, to);
    let _ = io::copy(&mut from, &mut to);
    // What is left on either side has nobody to go to.
    for end in [from, to] {
        let _ = end.shutdown(Shutdown::Both);
    }
}
