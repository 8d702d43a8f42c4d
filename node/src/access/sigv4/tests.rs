use super::*;

mod vectors;

use self::vectors::{ACCESS_KEY, NOW, SECRET, VECTORS, Vector};

type Headers = Vec<(String, Vec<u8>)>;

/// A vector that a test may change.
#[derive(Clone)]
struct Request {
    method: &'static str,
    path: String,
    query: String,
    headers: Headers,
    body: Vec<u8>,
}

impl Request {
    fn of(vector: &Vector) -> Request {
        let header = |(name, value): &(&str, &str)| ((*name).to_owned(), value.as_bytes().to_vec());
        Request {
            method: vector.method,
            path: vector.path.to_owned(),
            query: vector.query.to_owned(),
            headers: vector.headers.iter().map(header).collect(),
            body: vector.body.as_bytes().to_vec(),
        }
    }

    fn check(&self, secret: &str, now: Time) -> Result<(), Denied> {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .collect();
        let request = SignedRequest {
            method: self.method,
            path: &self.path,
            query: &self.query,
            headers: &headers,
            body_hash: canonical::sha256(&self.body),
        };
        let authorization = Authorization::read(&request)?;
        assert_eq!(authorization.access_key, ACCESS_KEY);
        let secret = SigningSecret::parse(secret).unwrap();
        authorization.verify(&request, &secret, SKEW, now)
    }

    fn set(&mut self, name: &str, change: impl Fn(&str) -> String) {
        let (_, value) = self
            .headers
            .iter_mut()
            .find(|(other, _)| other == name)
            .unwrap();
        *value = change(std::str::from_utf8(value).unwrap()).into_bytes();
    }
}

fn first() -> Request {
    Request::of(&VECTORS[0])
}

fn checked(change: impl Fn(&mut Request)) -> Result<(), Denied> {
    let mut request = first();
    change(&mut request);
    request.check(SECRET, NOW)
}

/// The real client's requests are good, and not with another secret.
#[test]
fn verifies_requests_of_botocore() {
    for vector in &VECTORS {
        let request = Request::of(vector);
        assert_eq!(request.check(SECRET, NOW), Ok(()), "{}", vector.path);
        let other = SECRET.to_lowercase();
        assert_eq!(request.check(&other, NOW), Err(Denied::Wrong));
    }
}

/// Whatever of a request changes on the way, it is no longer what was signed.
#[test]
fn refuses_changed_requests() {
    for vector in &VECTORS {
        let changes: [fn(&mut Request); 8] = [
            |request| request.method = "PUT",
            |request| request.path.push('x'),
            |request| request.query.push_str("&name=other"),
            |request| request.query.push('x'),
            |request| request.body.push(b' '),
            |request| request.set("Host", |_| "elsewhere".to_owned()),
            |request| request.set("X-Amz-Date", |_| "20261129T024501Z".to_owned()),
            |request| {
                request.set("Authorization", |text| {
                    text.replace("eu-north-1", "eu-north-2")
                })
            },
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut request = Request::of(vector);
            change(&mut request);
            let checked = request.check(SECRET, NOW);
            assert_eq!(checked, Err(Denied::Wrong), "{index} {}", vector.path);
        }
    }
}

/// A request counts for five minutes around its time.
#[test]
fn refuses_requests_of_another_time() {
    let request = first();
    let five = SKEW.as_millis() as u64;
    assert_eq!(request.check(SECRET, Time(NOW.0 + five)), Ok(()));
    assert_eq!(request.check(SECRET, Time(NOW.0 - five)), Ok(()));
    for now in [NOW.0 + five + 1, NOW.0 - five - 1, 0, u64::MAX] {
        assert_eq!(request.check(SECRET, Time(now)), Err(Denied::Skewed));
    }
    for stamp in [
        "",
        "20261129T024500",
        "20261129T024500ZZ",
        "20261329T024500Z",
        "20261129T244500Z",
        "2026-11-29T02:45",
        "+0261129T024500Z",
        "00000101T000000Z",
        "20261129t024500z",
        "２0261129T0245Z",
    ] {
        let bad = checked(|request| request.set("X-Amz-Date", |_| stamp.to_owned()));
        assert_eq!(
            bad,
            Err(Denied::Malformed("the header X-Amz-Date")),
            "{stamp}"
        );
    }
    let day = checked(|request| {
        request.set("Authorization", |text| {
            text.replace("/20261129/", "/20261128/")
        })
    });
    assert_eq!(day, Err(Denied::Malformed("the day of the signature")));
    let day =
        checked(|request| request.set("Authorization", |text| text.replace("/20261129/", "//")));
    assert_eq!(day, Err(Denied::Malformed("the day of the signature")));
}

/// Headers that are not there, there twice, or not signed although they count are refused.
#[test]
fn refuses_headers_out_of_order() {
    let few = Err(Denied::Malformed("too few headers are signed"));
    let signed = |to: &str| {
        checked(|request| {
            request.set("Authorization", |text| text.replace("host;x-amz-date", to));
        })
    };
    assert_eq!(signed("x-amz-date"), few);
    assert_eq!(signed("host"), few);
    let malformed = Err(Denied::Malformed("the header Authorization"));
    for bad in [
        "x-amz-date;host",
        "host;host;x-amz-date",
        "Host;x-amz-date",
        ";host;x-amz-date",
        "",
    ] {
        assert_eq!(signed(bad), malformed, "{bad}");
    }
    let missing = Err(Denied::Malformed("a header of the signature is missing"));
    assert_eq!(signed("host;x-amz-date;x-other"), missing);
    let twice = Err(Denied::Malformed(
        "a header of the signature stands there twice",
    ));
    for name in ["Host", "x-AMZ-date", "authorization"] {
        let more = checked(|request| request.headers.push((name.to_owned(), b"x".to_vec())));
        assert_eq!(more, twice, "{name}");
    }
    let more = |name: &str, value: &[u8]| {
        checked(|request| request.headers.push((name.to_owned(), value.to_vec())))
    };
    assert_eq!(
        more("X-Amz-Mqtt5-Payload-Format-Indicator", b"UTF8_DATA"),
        few
    );
    assert_eq!(more("X-Amz-Content-Sha256", b"UNSIGNED-PAYLOAD"), few);
    assert_eq!(more("Content-Length", b"0"), Ok(()));
    assert!(checked(|request| request.headers.retain(|(name, _)| name != "Host")).is_err());
    let text = checked(|request| {
        request.headers.retain(|(name, _)| name != "Host");
        request.headers.push(("Host".to_owned(), b"\xff".to_vec()));
    });
    assert_eq!(text, Err(Denied::Malformed("a signed header is not text")));
}

/// Headers that are no signature of this kind for this service are refused.
#[test]
fn refuses_other_authorizations() {
    let set = |change: fn(&str) -> String| checked(|request| request.set("Authorization", change));
    let none = checked(|request| request.headers.retain(|(name, _)| name != "Authorization"));
    assert_eq!(none, Err(Denied::Missing));
    for other in [
        |_: &str| "Bearer x".to_owned(),
        |text: &str| text.replace("HMAC-SHA256", "ECDSA-P256-SHA256"),
        |text: &str| text.replace("AWS4", "aws4"),
    ] {
        assert!(matches!(set(other), Err(Denied::Unsupported(_))));
    }
    assert!(matches!(
        set(|text| text.replace("iotdata", "s3")),
        Err(Denied::Unsupported(_))
    ));
    let long = set(|text| format!("{text}{}", " ".repeat(AUTHORIZATION_BYTES_MAX)));
    assert_eq!(long, Err(Denied::TooLarge));
    for other in [
        |text: &str| text.replace(", SignedHeaders=host;x-amz-date", ""),
        |text: &str| format!("{text}, Signature=00"),
        |text: &str| text.to_owned() + "0",
        |text: &str| text[..text.len() - 1].to_owned(),
        |text: &str| text.replace("Signature=", "Signature=+"),
        |text: &str| text.replace("aws4_request", "aws4_request/x"),
        |text: &str| text.replace("Credential=", "Credential=a/"),
        |text: &str| text.replace(ACCESS_KEY, ""),
        |_: &str| format!("{ALGORITHM} "),
    ] {
        assert_eq!(
            set(other),
            Err(Denied::Malformed("the header Authorization"))
        );
    }
}

/// A signature in a link is refused however its name is spelled.
#[test]
fn refuses_presigned_links() {
    for query in [
        "X-Amz-Signature=0",
        "a=b&x-amz-signature=0",
        "X%2DAmz%2DAlgorithm=x",
        "X-Amz-Credential",
    ] {
        let link = checked(|request| request.query = query.to_owned());
        assert!(matches!(link, Err(Denied::Unsupported(_))), "{query}");
    }
}

/// Paths that two readers understand differently, and broken escapes, are refused.
#[test]
fn refuses_paths_of_two_meanings() {
    for path in [
        "",
        "things/a",
        "//things/a",
        "/things/../a",
        "/./things",
        "/things/a/",
        "/things//a",
    ] {
        let bad = checked(|request| request.path = path.to_owned());
        assert_eq!(bad, Err(Denied::Malformed("the path")), "{path}");
    }
    for query in ["name=%", "name=%4", "name=%zz", "%=1", "name=%+1"] {
        let bad = checked(|request| request.query = query.to_owned());
        assert_eq!(bad, Err(Denied::Malformed("the query")), "{query}");
    }
    let long = checked(|request| request.path = format!("/{}", "a".repeat(8_192)));
    assert_eq!(long, Err(Denied::TooLarge));
}

/// Days are counted as the calendar has them.
#[test]
fn counts_days() {
    for (stamp, seconds) in [
        ("19700101T000000Z", 0),
        ("20000229T235959Z", 951_868_799),
        ("20000301T000000Z", 951_868_800),
        ("21000301T000000Z", 4_107_542_400),
        ("20261129T024500Z", 1_795_920_300),
    ] {
        assert_eq!(
            canonical::time(stamp),
            Some(Time(seconds * 1_000)),
            "{stamp}"
        );
    }
}

/// Secrets are texts of some length without blanks, and are not printed.
#[test]
fn secrets_are_not_printed() {
    let secret = SigningSecret::parse(SECRET).unwrap();
    assert_eq!(format!("{secret:?}"), "(secret)");
    for bad in [
        "",
        "short",
        "with blank in the middle",
        "0123456789abcdef\0",
        "0123456789abcdefé",
    ] {
        assert_eq!(SigningSecret::parse(bad), None, "{bad}");
    }
    assert_eq!(SigningSecret::parse(&"x".repeat(129)), None);
}
