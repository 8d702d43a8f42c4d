//! JSON texts: of the grammar, and of its borders.

use super::Seed;

/// Keys given twice are taken, nesting as deep as it goes.
const LENIENT: u8 = 0xfe;
/// Keys given twice are refused, nesting as deep as our own doors allow.
const STRICT: u8 = 0x13;

pub(super) fn seeds() -> Vec<Seed> {
    let deep = "[".repeat(128) + &"]".repeat(128);
    let texts = [
        (
            "shadow",
            r#"{"state":{"desired":{"on":true,"level":3},"reported":null},"version":7}"#,
        ),
        ("nested", r#"{"a":{"b":{"c":[1,[2,{"d":[]}]]}},"e":{}}"#),
        ("twice", r#"{"a":1,"b":2,"a":{"c":null},"a":3}"#),
        (
            "numbers",
            "[0,-0,1.5,-2e10,3E-7,12345678901234567890,1e400,0.1e+1]",
        ),
        (
            "number-long",
            "0.1234567890123456789012345678901234567890123456789012345678901234567890",
        ),
        ("number-wide", "1e401"),
        ("not-numbers", "[NaN,Infinity,-Infinity,+1,01,.5,1.]"),
        (
            "strings",
            r#"["\"\\\/\b\f\n\r\t","\u00e9\ud83d\ude00","é😀","\u0000"]"#,
        ),
        ("surrogate", r#""\ud800""#),
        ("nulls", r#"{"a":null,"b":[null],"c":{"d":null}}"#),
        ("keys", r#"{"":1,"/~":2,"\u0000":3,"$aws":4,"a.b":5}"#),
        ("spaces", " \t\r\n{ \"a\" : [ 1 , true , false ] } "),
        ("behind", "{}{}"),
        ("cut", r#"{"a":[1,"b"#),
        ("deep", deep.as_str()),
    ];
    let mut seeds = Vec::new();
    for (name, text) in texts {
        for (kind, choice) in [("lenient", LENIENT), ("strict", STRICT)] {
            let bytes = [&[choice], text.as_bytes()].concat();
            seeds.push(Seed::new("json", format!("{name}-{kind}"), bytes));
        }
    }
    seeds.push(Seed::new("json", "not-utf8", &b"\xfe\"\xff\xfe\""[..]));
    seeds
}
