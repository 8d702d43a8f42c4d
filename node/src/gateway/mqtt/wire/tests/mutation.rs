//! Good packets, damaged at random: nothing panics, and how bytes are cut into pieces changes
//! nothing.

use proptest::prelude::*;

use super::*;

/// One stream for each version, with every packet that a client can send.
fn streams() -> Vec<Vec<u8>> {
    let old = |version| {
        [
            connect(
                version,
                0b1100_0110,
                &[],
                &[&text("c"), &text("w"), &text("x"), &text("u"), &text("p")],
            ),
            packet(0x82, &[&[0, 1], &text("a/#"), &[1], &text("+/b"), &[0]]),
            packet(0x32, &[&text("a/b"), &[0, 2], b"hello"]),
            packet(0x30, &[&text("b/b"), b"!"]),
            packet(0x40, &[&[0, 1]]),
            packet(0xA2, &[&[0, 3], &text("a/#")]),
            vec![0xC0, 0],
            vec![0xE0, 0],
        ]
        .concat()
    };
    let v5 = [
        connect(
            Version::V5,
            0b1100_0110,
            &[
                &[0x11, 0, 0, 0, 60],
                &[0x21, 0, 2],
                &[0x27, 0, 0, 1, 0],
                &[0x22, 0, 3],
            ],
            &[
                &text("c"),
                &properties(&[&[0x18, 0, 0, 0, 5], &[0x02, 0, 0, 0, 0]]),
                &text("w"),
                &text("x"),
                &text("u"),
                &text("p"),
            ],
        ),
        packet(
            0x82,
            &[
                &[0, 1, 2, 0x0B, 9],
                &text("a/#"),
                &[1],
                &text("$share/g/b"),
                &[0],
            ],
        ),
        packet(
            0x32,
            &[
                &text("a/b"),
                &[0, 2],
                &properties(&[&[0x23, 0, 1, 0x01, 1]]),
                b"hello",
            ],
        ),
        packet(
            0x32,
            &[
                &text(""),
                &[0, 3],
                &properties(&[&[0x23, 0, 1, 0x02, 0, 0, 0, 0]]),
                b"?",
            ],
        ),
        packet(
            0x40,
            &[&[0, 1, 0x10], &properties(&[&[0x1F], &text("why")])],
        ),
        packet(0xA2, &[&[0, 3, 0], &text("a/#")]),
        vec![0xC0, 0],
        packet(0xE0, &[&[4], &properties(&[&[0x11, 0, 0, 0, 9]])]),
    ]
    .concat();
    vec![old(Version::V31), old(Version::V311), v5]
}

#[derive(Debug, Clone)]
enum Damage {
    Set(u8),
    Flip(u8),
    Insert(u8),
    Remove,
    Repeat,
    CutOff,
}

fn any_damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<u8>().prop_map(Damage::Set),
        prop::sample::select(vec![0, 1, 0x7F, 0x80, 0xFF]).prop_map(Damage::Set),
        (0..8_u8).prop_map(|bit| Damage::Flip(1 << bit)),
        any::<u8>().prop_map(Damage::Insert),
        Just(Damage::Remove),
        Just(Damage::Repeat),
        Just(Damage::CutOff),
    ]
}

fn apply(bytes: &mut Vec<u8>, place: prop::sample::Index, damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    let at = place.index(bytes.len());
    match damage {
        Damage::Set(value) => bytes[at] = *value,
        Damage::Flip(bit) => bytes[at] ^= bit,
        Damage::Insert(value) => bytes.insert(at, *value),
        Damage::Remove => drop(bytes.remove(at)),
        Damage::Repeat => bytes.extend_from_within(at..),
        Damage::CutOff => bytes.truncate(at),
    }
}

fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damages = prop::collection::vec((any::<prop::sample::Index>(), any_damage()), 0..6);
    (prop::sample::select(streams()), damages).prop_map(|(mut bytes, damages)| {
        for (place, damage) in &damages {
            apply(&mut bytes, *place, damage);
        }
        bytes
    })
}

/// The streams are good before they are damaged, or the tests below would test little.
#[test]
fn undamaged_streams_are_read_to_the_end() {
    for stream in streams() {
        let (packets, error) = decode(&stream);
        assert_eq!((packets.len(), error), (8, None));
        crate::gateway::mqtt::fuzz(&[&[0xFF], &stream[..]].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// The same bytes give the same packets and the same error, however they are cut.
    #[test]
    fn pieces_do_not_matter(bytes in damaged(), piece_bytes in 1..40_usize) {
        let whole = decode_pieces(&bytes, bytes.len().max(1));
        prop_assert_eq!(decode_pieces(&bytes, piece_bytes), whole);
    }

    /// Whatever comes, decoder, session and encoder hold.
    #[test]
    fn damaged_streams_never_panic(bytes in damaged(), choice in any::<u8>()) {
        crate::gateway::mqtt::fuzz(&[&[choice], &bytes[..]].concat());
    }

    /// So does what is no MQTT at all.
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        crate::gateway::mqtt::fuzz(&bytes);
    }
}
