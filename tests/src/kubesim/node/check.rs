//! Runs probes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::waiting;

/// Of an answer only the beginning is read.
const ANSWER_BYTES_MAX: u64 = 4096;

/// Whether a GET at the address of a pod is answered with 200 to 399 in time.
pub fn http(address: Ipv4Addr, port: u16, path: &str, is_https: bool, timeout: Duration) -> bool {
    let stream = connect(address, port, timeout);
    let asked = stream.and_then(|stream| match is_https {
        true => ask(&mut secured(stream, address)?, address, path),
        false => ask(&mut { stream }, address, path),
    });
    asked.is_ok_and(|status| (200..400).contains(&status))
}

/// Whether a port of a pod takes a connection in time.
pub fn tcp(address: Ipv4Addr, port: u16, timeout: Duration) -> bool {
    connect(address, port, timeout).is_ok()
}

/// Whether a command ends with success in time. It is killed when it does not.
pub fn exec(mut child: Child, timeout: Duration) -> bool {
    let ended = waiting::until("the probe ends", timeout, || child.try_wait().transpose());
    if ended.is_err() {
        child.kill().ok();
        child.wait().ok();
    }
    ended.is_ok_and(|status| status.is_ok_and(|status| status.success()))
}

fn connect(address: Ipv4Addr, port: u16, timeout: Duration) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from((address, port)), timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    Ok(stream)
}

fn ask(stream: &mut (impl Read + Write), address: Ipv4Addr, path: &str) -> Result<u16> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {address}\r\nuser-agent: kube-probe\r\naccept: */*\r\n\
         connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    // Servers that end without saying so over TLS have answered all the same.
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).ok();
    let text = String::from_utf8_lossy(&answer);
    let status = text.split(' ').nth(1).context("no answer")?;
    Ok(status.parse()?)
}

type Secured = StreamOwned<ClientConnection, TcpStream>;

fn secured(stream: TcpStream, address: Ipv4Addr) -> Result<Secured> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let trust = Trust(provider.signature_verification_algorithms);
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trust))
        .with_no_client_auth();
    let name = ServerName::from(std::net::IpAddr::from(address));
    let connection = ClientConnection::new(Arc::new(config), name)?;
    Ok(StreamOwned::new(connection, stream))
}

/// The kubelet takes every certificate.
#[derive(Debug)]
struct Trust(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process::Command;
    use std::thread;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Answers one connection.
    fn serve(answer: &'static str) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        port
    }

    fn get(answer: &'static str) -> bool {
        http(Ipv4Addr::LOCALHOST, serve(answer), "/readyz", false, LIMIT)
    }

    #[test]
    fn http_probe_succeeds_with_200_to_399() {
        assert!(get("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(get("HTTP/1.1 302 Found\r\n\r\n"));
        assert!(!get("HTTP/1.1 400 Bad\r\n\r\n"));
        assert!(!get("HTTP/1.1 503 No\r\n\r\n"));
        assert!(!get(""));
    }

    #[test]
    fn tcp_probe_succeeds_when_the_port_is_open() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(tcp(Ipv4Addr::LOCALHOST, port, LIMIT));
        drop(listener);
        assert!(!tcp(Ipv4Addr::LOCALHOST, port, LIMIT));
    }

    #[test]
    fn exec_probe_succeeds_with_status_0_in_time() {
        let run = |words: &[&str], limit| {
            let child = Command::new(words[0]).args(&words[1..]).spawn().unwrap();
            exec(child, limit)
        };
        assert!(run(&["true"], LIMIT));
        assert!(!run(&["false"], LIMIT));
        assert!(!run(&["sleep", "100"], Duration::from_millis(50)));
    }
}
