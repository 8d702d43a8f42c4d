//! A deliberately plain HTTP/1.1 client: it sends exactly the bytes a test asks for, also wrong ones.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

const LIMIT: Duration = Duration::from_secs(30);

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body without transfer encoding.
    pub body: Vec<u8>,
}

impl Answer {
    /// Value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text; wrong UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The AWS error type, without what may follow a colon.
    pub fn error_type(&self) -> Option<&str> {
        self.header("x-amzn-errortype")
            .and_then(|value| value.split(':').next())
    }

    fn parse(raw: &[u8]) -> Result<Answer> {
        let end = raw.windows(4).position(|window| window == b"\r\n\r\n");
        let end = end.with_context(|| format!("no HTTP head in {} bytes", raw.len()))?;
        let head = std::str::from_utf8(&raw[..end])?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let status: u16 = status.context("no status line")?.parse()?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer {
            status,
            headers,
            body: raw[end + 4..].to_vec(),
        };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = unchunk(&answer.body);
        }
        if status == 100 {
            return Answer::parse(&raw[end + 4..]);
        }
        Ok(answer)
    }
}

fn unchunk(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(line) = raw.windows(2).position(|window| window == b"\r\n") {
        let size = String::from_utf8_lossy(&raw[..line]).into_owned();
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else {
            break;
        };
        let start = line + 2;
        if size == 0 || raw.len() < start + size {
            break;
        }
        body.extend_from_slice(&raw[start..start + size]);
        raw = raw.get(start + size + 2..).unwrap_or_default();
    }
    body
}

/// Sends one request on a connection of its own and reads the answer.
pub fn send(address: SocketAddr, method: &str, target: &str, body: &[u8]) -> Result<Answer> {
    let head = format!(
        "{method} {target} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let mut request = head.into_bytes();
    request.extend_from_slice(body);
    send_raw(address, &request)
}

/// A GET without a body.
pub fn get(address: SocketAddr, target: &str) -> Result<Answer> {
    send(address, "GET", target, b"")
}

/// Sends exactly these bytes and reads the answer.
pub fn send_raw(address: SocketAddr, request: &[u8]) -> Result<Answer> {
    let mut stream = open(address)?;
    // A server may answer and close before it has read everything: the answer counts.
    let sent = stream.write_all(request);
    let raw = read_answer(&mut stream);
    match Answer::parse(&raw) {
        Ok(answer) => Ok(answer),
        Err(error) => Err(error.context(format!("after sending: {sent:?}"))),
    }
}

/// How an endless body is announced.
#[derive(Clone, Copy, Debug)]
pub enum Announced {
    /// By `content-length`.
    Length,
    /// By chunked transfer encoding.
    Chunked,
}

/// Streams a body of `bytes` spaces until it is sent or the server has had enough.
/// Gives the answer and how many bytes of the body went out.
pub fn stream_body(
    address: SocketAddr,
    target: &str,
    bytes: u64,
    announced: Announced,
) -> Result<(Answer, u64)> {
    let mut stream = open(address)?;
    let framing = match announced {
        Announced::Length => format!("content-length: {bytes}"),
        Announced::Chunked => "transfer-encoding: chunked".to_owned(),
    };
    let head = format!("POST {target} HTTP/1.1\r\nhost: {address}\r\n{framing}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut reader = stream.try_clone()?;
    let answer = thread::spawn(move || read_answer(&mut reader));

    let piece = vec![b' '; 64 * 1024];
    let mut sent = 0;
    let started = Instant::now();
    while sent < bytes && !answer.is_finished() {
        if started.elapsed() > 4 * LIMIT {
            bail!("still sending after {:?}, {sent} bytes", started.elapsed());
        }
        let framed = match announced {
            Announced::Length => piece.clone(),
            Announced::Chunked => chunk(&piece),
        };
        if stream.write_all(&framed).is_err() {
            break;
        }
        sent += piece.len() as u64;
    }
    let raw = answer
        .join()
        .map_err(|_| anyhow::anyhow!("reader panicked"))?;
    Ok((Answer::parse(&raw)?, sent))
}

fn chunk(piece: &[u8]) -> Vec<u8> {
    let mut framed = format!("{:x}\r\n", piece.len()).into_bytes();
    framed.extend_from_slice(piece);
    framed.extend_from_slice(b"\r\n");
    framed
}

fn open(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads until the server closes, stops with an error, or a complete answer is there.
fn read_answer(stream: &mut TcpStream) -> Vec<u8> {
    let mut raw = Vec::new();
    let mut piece = [0; 16 * 1024];
    while let Ok(read) = stream.read(&mut piece) {
        raw.extend_from_slice(&piece[..read]);
        if read == 0 || is_complete(&raw) {
            break;
        }
    }
    raw
}

fn is_complete(raw: &[u8]) -> bool {
    let Ok(answer) = Answer::parse(raw) else {
        return false;
    };
    let length = answer
        .header("content-length")
        .and_then(|value| value.parse::<usize>().ok());
    length.is_some_and(|length| answer.body.len() >= length) || raw.ends_with(b"\r\n0\r\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plain client itself must not misread answers.
    #[test]
    fn reads_lengths_chunks_and_interim_answers() {
        let raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
        let answer = Answer::parse(raw).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "hi"));
        let raw = b"HTTP/1.1 404 Not\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        let answer = Answer::parse(raw).unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (404, "abcd"));
        assert!(is_complete(raw));
        assert!(Answer::parse(b"HTTP/1.1 200 OK\r\n").is_err());
    }
}
