//! Tokens and keys that PyJWT 2.15.1 made: another hand than ours.

/// Seconds since the Unix epoch at which the tokens are good.
pub(super) const SECONDS: u64 = 1_795_920_300;

/// The public keys.
pub(super) const KEYS: &str = r#"{
 "keys": [
  {
   "kty": "RSA",
   "n": "rSG0MERShsmxe7c1X_dhji2PgaiF8W3TGv6Pe6F3xkUe593Sr4Sr4xNDfOJM10tSukM3m9mZRfSYiMGnueyLYLtc1c62cmqr1TWApG6jDYISaCBoH616knenk5Jzj7vT2s9ZrHjKdsE9biil-jamCPh8ENhnS4pKATGOAHdA1hh8kKEZBo9gOPwHdHg29ereONiNptD8JrovPn6ZBJ5xb0VJEN6TMG_w8RxB8RCtDb-U373DeMzz9np0VEiim13LijdAYoYm29vw6vdf-Neq9mkUwstyWqlnmcLngpRdFDnmpqa6XsVGOvem4uVqEIRJKsc1P304XQdEQj88wxvC1w",
   "e": "AQAB",
   "kid": "rsa",
   "use": "sig"
  },
  {
   "kty": "EC",
   "crv": "P-256",
   "x": "UXdrFmudhcDMcrOUQvYBfMFgCuL-A4xJt5b3rGS8Pxk",
   "y": "B_gB2A4x_dItHZWY-gg_lM3fGH3-74ym0rEz_Tmp4XI",
   "kid": "p256",
   "use": "sig"
  },
  {
   "kty": "EC",
   "crv": "P-384",
   "x": "kPxNdusJigguZtitNl8doLW7whwseFt38-HF7hQW5RFRworWPPYzUyreE6OKNUd5",
   "y": "822PRwnIzfBgal91iDMXFcuNOWuYW33QuvxCZl40663e1X02QwuYVYoOM4F0SBPu",
   "kid": "p384",
   "use": "sig"
  },
  {
   "x": "EE3X-V-0ELyCdZT498kcOS5NFMRXsN2gOWFfmml8YVg",
   "kty": "OKP",
   "crv": "Ed25519",
   "kid": "ed",
   "use": "sig"
  }
 ]
}"#;

/// Algorithm and token.
pub(super) const TOKENS: [(&str, &str); 6] = [
    (
        "RS256",
        "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwiYXVkIjpbImZsZWV0Il0sInN1YiI6InB1bXA6MSIsImV4cCI6MTc5NTkyMDkwMCwibmJmIjoxNzk1OTIwMjkwLCJ0ZW5hbnQiOiJhY21lIiwicm9sZSI6ImRldmljZSJ9.WNAn5fN4OtHW2txJB8MxFC8G46f6gwFh1zzgfSQ8S7hCPl0T809CX3Pp_TM4TKljhOH7zViuse0w2kmVFTZ4GQK3r0roGjrSWElHrcw_e7S4psmMDn_7QTVclryzN4AtzyvCd7UO8Be8qoRfkbtToSNe75CH4OdlJNoVthPCgKlkB-1FCxVrpHq8ZF5szsn1YF4ht0lt1TNhbeW4a9P65UkJ1_q6asXI2A7QpTyhA0Qa0Kpx3U6hf-SvJsbHWlucIOe44lE2ox5mjPV-v4I5Zj_wHoqW1ByHYAKUyho7jXTGiWYE6t6QgOCcsg7gsZBCowyjQvrkAH-whi0CTZg0nw",
    ),
    (
        "RS512",
        "eyJhbGciOiJSUzUxMiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwiYXVkIjpbImZsZWV0Il0sInN1YiI6InB1bXA6MSIsImV4cCI6MTc5NTkyMDkwMCwibmJmIjoxNzk1OTIwMjkwLCJ0ZW5hbnQiOiJhY21lIiwicm9sZSI6ImRldmljZSJ9.lf1avdWndaE2dZGOCzgkWq0dUIqb5NYo1eJ7rYJyyH7LfQZEcIvbUyNTKnuzo_4pGkkWDbvAT28BPRNfpB7vJWCP9xMSF81oqDBvD58Ofp2nhfaTrFKq7P4jUi9bBqyhNPy2Bhgt4yivmbuYNG8-bimcNWVzbSBZverRDjF3gQ-9JFzZLb_4XgOmCYV_Sm8HMhGE_Gv8eTWSdO84eeeuMLHk5LHI50P3376bc-Po6bmylcQ4BEatVY3hT3P4wMgY-nkE2dqDOnVzVTo-9o0CDbE4A16Kx2NoFmY7k2tbAdLukMBm1CIq45AfWS5dFwJ1u73_yTf762Mhdctr-ntE6w",
    ),
    (
        "PS256",
        "eyJhbGciOiJQUzI1NiIsImtpZCI6InJzYSIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwiYXVkIjpbImZsZWV0Il0sInN1YiI6InB1bXA6MSIsImV4cCI6MTc5NTkyMDkwMCwibmJmIjoxNzk1OTIwMjkwLCJ0ZW5hbnQiOiJhY21lIiwicm9sZSI6ImRldmljZSJ9.QOoS5qUTh53fUSp0KPzPC7F2zzX5qrC3YUNV6WJX4QpZlo-6Ql2WKbpuJ7P2mgTh9ZdUbkN0IaktBWx12UCuH2TMTcybBpbYpZGFlflppfphAnNfCbfBtdKpKLHM8G66paWPA8Qocoyv3qReMl6QqBMVd-OA5Qg9_7sfxRjkDjcYDgRf31EhRP1IV7CtSqF4h-TdWCS-ewJzPkH3T_LNE4jggtvyXIS9UBYnJ2BcBPt6-EZ_MBvN8YMxHfGU8GnsV-w56TRCqwvRxDVhOBtRgXKvjKpOc7o-CRCTS_CBZ8n0OhSMpfgIWkwWeVCUWunEhUPVoWAWPXYDbeadayBb4g",
    ),
    (
        "ES256",
        "eyJhbGciOiJFUzI1NiIsImtpZCI6InAyNTYiLCJ0eXAiOiJKV1QifQ.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwiYXVkIjpbImZsZWV0Il0sInN1YiI6InB1bXA6MSIsImV4cCI6MTc5NTkyMDkwMCwibmJmIjoxNzk1OTIwMjkwLCJ0ZW5hbnQiOiJhY21lIiwicm9sZSI6ImRldmljZSJ9.z_eRfrMdf5lMfOhbvuws7E3s0qFZ6OY_pkHVL-JGmZ-5XAhYEKodHNGlsAVgqv5tgHITcCWs4UjArvhXzPQjyA",
    ),
    (
        "ES384",
        "eyJhbGciOiJFUzM4NCIsImtpZCI6InAzODQiLCJ0eXAiOiJKV1QifQ.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwiYXVkIjpbImZsZWV0Il0sInN1YiI6InB1bXA6MSIsImV4cCI6MTc5NTkyMDkwMCwibmJmIjoxNzk1OTIwMjkwLCJ0ZW5hbnQiOiJhY21lIiwicm9sZSI6ImRldmljZSJ9.RECQ0rIpOeBnLZwJcaQh6Ly_qYgRI9D0_TZF-9VG3Qr3ICOyAQJY8678NoMfMVUNxWb3Vh1Kvvpo6TAA2qG7HrTHmdw0Cpgj3tZLXNi3v6dW9g2HFQarYh1lzSkdQLJO",
    ),
    (
        "EdDSA",
        "eyJhbGciOiJFZERTQSIsImtpZCI6ImVkIiwidHlwIjoiSldUIn0.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIiwiYXVkIjpbImZsZWV0Il0sInN1YiI6InB1bXA6MSIsImV4cCI6MTc5NTkyMDkwMCwibmJmIjoxNzk1OTIwMjkwLCJ0ZW5hbnQiOiJhY21lIiwicm9sZSI6ImRldmljZSJ9.A6HeKWT0ZZr8QYZNr0Iudhpe0VnY0aPyJu4iNv_YtDRriQHEEOzNkG-WEY5ZAw71ov0igDpOm5sDLkh3JQCYBQ",
    ),
];
