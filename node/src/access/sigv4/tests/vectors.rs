//! Requests that botocore 1.44.8 signed for the service `iotdata`, as they go over the wire.

use antumbra_shadow::Time;

pub(super) const ACCESS_KEY: &str = "AKIDANTUMBRA00000001";
pub(super) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2026-11-29 02:45:00, when the requests were signed.
pub(super) const NOW: Time = Time(1_795_920_300_000);

pub(super) struct Vector {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) query: &'static str,
    pub(super) headers: &'static [(&'static str, &'static str)],
    pub(super) body: &'static str,
}

pub(super) const VECTORS: [Vector; 6] = [
    Vector {
        method: "GET",
        path: "/things/pump-1/shadow",
        query: "",
        headers: &[
            ("Host", "127.0.0.1:7480"),
            ("X-Amz-Date", "20261129T024500Z"),
            (
                "Authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDANTUMBRA00000001/20261129/eu-north-1/iotdata/aws4_request, \
                 SignedHeaders=host;x-amz-date, \
                 Signature=2c24c9c2d2b060df6063dd010c19927a8994bb3d1855b6132cdd4b668d021d6f",
            ),
        ],
        body: "",
    },
    Vector {
        method: "GET",
        path: "/things/line%3A7_pump-1/shadow",
        query: "name=set%3Apoints",
        headers: &[
            ("Host", "127.0.0.1:7480"),
            ("X-Amz-Date", "20261129T024500Z"),
            (
                "Authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDANTUMBRA00000001/20261129/eu-north-1/iotdata/aws4_request, \
                 SignedHeaders=host;x-amz-date, \
                 Signature=d6e9a2394807c51dd64879a59670528d756a301910c3292ebdd77eda309e041f",
            ),
        ],
        body: "",
    },
    Vector {
        method: "POST",
        path: "/things/pump%3A1/shadow",
        query: "",
        headers: &[
            ("Host", "127.0.0.1:7480"),
            ("X-Amz-Date", "20261129T024500Z"),
            (
                "Authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDANTUMBRA00000001/20261129/eu-north-1/iotdata/aws4_request, \
                 SignedHeaders=host;x-amz-date, \
                 Signature=dda89ac7d05ce8722ab4ca97e456a7da5399b157d56af316ad18b7c932bacf88",
            ),
            ("Content-Length", "46"),
        ],
        body: r#"{"state":{"desired":{"speed":7,"unit":"°C"}}}"#,
    },
    Vector {
        method: "DELETE",
        path: "/things/pump-1/shadow",
        query: "name=a",
        headers: &[
            ("Host", "127.0.0.1:7480"),
            ("X-Amz-Date", "20261129T024500Z"),
            (
                "Authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDANTUMBRA00000001/20261129/eu-north-1/iotdata/aws4_request, \
                 SignedHeaders=host;x-amz-date, \
                 Signature=63deab80aa45221a96d9b666cf532ebe33f1b426428f3517f313bed3aeb8a98d",
            ),
            ("Content-Length", "0"),
        ],
        body: "",
    },
    Vector {
        method: "GET",
        path: "/api/things/shadow/ListNamedShadowsForThing/pump%3A1",
        query: "pageSize=5&nextToken=a%2Bb%2Fc%3D%20~d",
        headers: &[
            ("Host", "127.0.0.1:7480"),
            ("X-Amz-Date", "20261129T024500Z"),
            (
                "Authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDANTUMBRA00000001/20261129/eu-north-1/iotdata/aws4_request, \
                 SignedHeaders=host;x-amz-date, \
                 Signature=fa96755933920d577381c3beb549539e1068d7ef5b36829415806e60757bab04",
            ),
        ],
        body: "",
    },
    Vector {
        method: "POST",
        path: "/topics/device%2Fpump%201%2F%C3%A9v%C3%A9nement",
        query: "qos=1",
        headers: &[
            ("Host", "127.0.0.1:7480"),
            ("x-amz-mqtt5-user-properties", "Ilt7XCJhXCI6XCJiXCJ9XSI="),
            ("x-amz-mqtt5-payload-format-indicator", "UTF8_DATA"),
            ("X-Amz-Date", "20261129T024500Z"),
            (
                "Authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDANTUMBRA00000001/20261129/eu-north-1/iotdata/aws4_request, \
                 SignedHeaders=host;x-amz-date;x-amz-mqtt5-payload-format-indicator;x-amz-mqtt5-user-properties, \
                 Signature=21ceab7c1b9d5105b820da8dfaa1c54201c547e80ac47a3d7a26d4b2e2691c94",
            ),
            ("Content-Length", "5"),
        ],
        body: "hello",
    },
];
