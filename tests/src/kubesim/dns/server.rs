//! Answers questions over UDP.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use super::Names;
use super::message;

/// How often the server looks whether it should end.
const TURN: Duration = Duration::from_millis(100);
/// Longer questions are cut, and then malformed.
const BYTES_MAX: usize = 1024;

/// A server. It ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    names: Arc<Mutex<Names>>,
    is_ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts to answer at an address.
    pub fn start(address: SocketAddr) -> Result<Server> {
        let socket =
            UdpSocket::bind(address).with_context(|| format!("answer names at {address}"))?;
        socket.set_read_timeout(Some(TURN))?;
        let address = socket.local_addr()?;
        let names = Arc::new(Mutex::new(Names::new()));
        let is_ending = Arc::new(AtomicBool::new(false));
        let (known, ending) = (Arc::clone(&names), Arc::clone(&is_ending));
        let thread = thread::spawn(move || {
            while !ending.load(Ordering::Relaxed) {
                // A question that is lost is asked again.
                turn(&socket, &known).ok();
            }
        });
        Ok(Server {
            address,
            names,
            is_ending,
            thread: Some(thread),
        })
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on these are the names.
    pub fn set(&self, names: Names) {
        *self.names.lock().expect("nobody panics with it") = names;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn turn(socket: &UdpSocket, names: &Mutex<Names>) -> io::Result<()> {
    let mut bytes = [0; BYTES_MAX];
    let (length, from) = socket.recv_from(&mut bytes)?;
    let answer = {
        let names = names.lock().expect("nobody panics with it");
        message::answer(&bytes[..length], &names)
    };
    if let Some(answer) = answer {
        socket.send_to(&answer, from)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// A server says what it was told last, and is gone when it is dropped.
    #[test]
    fn server_answers_with_the_names_of_now() {
        let server = Server::start((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        client.connect(server.address()).unwrap();
        let question =
            b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03web\x00\x00\x01\x00\x01";
        let ask = || {
            client.send(question).unwrap();
            let mut bytes = [0; 512];
            let length = client.recv(&mut bytes).unwrap();
            (bytes[1], bytes[3] & 0x0F, bytes[length - 1])
        };
        assert_eq!(ask(), (7, 3, 1), "no such name");
        let address = Ipv4Addr::new(10, 0, 0, 9);
        server.set([("web".to_owned(), vec![address])].into());
        assert_eq!(ask(), (7, 0, 9));
        let address = server.address();
        drop(server);
        UdpSocket::bind(address).unwrap();
    }
}
