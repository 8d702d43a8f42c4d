//! Where an MQTT server is: `mqtt://host:port` or `mqtts://host:port`.

use std::fmt;
use std::str::FromStr;

const PLAIN_PORT: u16 = 1883;
const SECURE_PORT: u16 = 8883;

/// A server and whether TLS is spoken to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// TLS is spoken.
    pub(crate) is_secure: bool,
    /// Name or address, without brackets.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{why}; write mqtt://HOST:PORT or mqtts://HOST:PORT");
        let text = text.trim();
        let (is_secure, authority) = match text.split_once("://") {
            None => (false, text),
            Some(("mqtt" | "tcp", rest)) => (false, rest),
            Some(("mqtts" | "ssl", rest)) => (true, rest),
            Some((scheme, _)) => return Err(wrong(&format!("`{scheme}` is not MQTT"))),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or(wrong("`]` is missing"))?;
                (host, rest.strip_prefix(':'))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() || host.contains(['/', '@']) {
            return Err(wrong("there is no host"));
        }
        let default = if is_secure { SECURE_PORT } else { PLAIN_PORT };
        let port = port.map_or(Ok(default), str::parse);
        Ok(Self {
            is_secure,
            host: host.to_owned(),
            port: port.map_err(|_| wrong("the port is not a number up to 65535"))?,
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "mqtts" } else { "mqtt" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    /// What is printed can be pasted.
    #[test]
    fn reads_what_people_write() {
        for (text, shown) in [
            ("localhost", "mqtt://localhost:1883"),
            ("mqtt://127.0.0.1:1884/", "mqtt://127.0.0.1:1884"),
            ("mqtts://a.example", "mqtts://a.example:8883"),
            ("mqtt://[::1]:99", "mqtt://[::1]:99"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert_eq!(shown.parse(), Ok(endpoint));
        }
        for text in [
            "http://a",
            "mqtt://",
            "mqtt://a:x",
            "mqtt://a:70000",
            "mqtt://[::1",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
