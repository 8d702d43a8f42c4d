//! Questions and answers on the wire (RFC 1035), as much of them as asking for addresses takes.

use super::Names;

/// How long an answer may be kept, in seconds.
const TTL: u32 = 5;
/// Longest answer over UDP to somebody who does not say more (RFC 1035, 2.3.4).
const BYTES_MAX: usize = 512;
const HEADER: usize = 12;
const ANSWER: usize = 16;

const TYPE_A: u16 = 1;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;

/// Bits of the second 16 of the header.
const IS_RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const IS_AUTHORITATIVE: u16 = 0x0400;
const IS_TRUNCATED: u16 = 0x0200;
const WANTS_RECURSION: u16 = 0x0100;

/// Codes of answers.
const MALFORMED: u16 = 1;
const NO_SUCH_NAME: u16 = 3;
const NOT_IMPLEMENTED: u16 = 4;

/// The only question of a message.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    /// In lower case, without the last dot.
    name: String,
    kind: u16,
    class: u16,
    /// Where it ends in the message.
    end: usize,
}

/// The answer to a message; `None` to what is no question at all.
pub fn answer(message: &[u8], names: &Names) -> Option<Vec<u8>> {
    let flags = number(message, 2)?;
    if message.len() < HEADER || flags & IS_RESPONSE != 0 {
        return None;
    }
    if flags & OPCODE != 0 {
        return Some(reply(message, None, NOT_IMPLEMENTED, &[]));
    }
    let Some(question) = parse(message) else {
        return Some(reply(message, None, MALFORMED, &[]));
    };
    let Some(addresses) = names.get(&question.name) else {
        return Some(reply(message, Some(&question), NO_SUCH_NAME, &[]));
    };
    // A name without an address of the kind asked for exists all the same.
    let asks_for_them = [TYPE_A, TYPE_ANY].contains(&question.kind) && question.class == CLASS_IN;
    let octets: Vec<[u8; 4]> = addresses.iter().map(|address| address.octets()).collect();
    let found = if asks_for_them {
        octets.as_slice()
    } else {
        &[]
    };
    Some(reply(message, Some(&question), 0, found))
}

fn parse(message: &[u8]) -> Option<Question> {
    if number(message, 4)? != 1 {
        return None;
    }
    let (mut labels, mut at) = (Vec::new(), HEADER);
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        match length {
            0 => break,
            // A question has nothing before it that a pointer could point to.
            1..64 => {
                let label = message.get(at..at + length)?;
                labels.push(String::from_utf8_lossy(label).to_lowercase());
                at += length;
            }
            _ => return None,
        }
        if at > HEADER + 255 {
            return None;
        }
    }
    Some(Question {
        name: labels.join("."),
        kind: number(message, at)?,
        class: number(message, at + 2)?,
        end: at + 4,
    })
}

fn reply(message: &[u8], question: Option<&Question>, code: u16, addresses: &[[u8; 4]]) -> Vec<u8> {
    let end = question.map_or(HEADER, |question| question.end);
    let fitting = addresses.len().min((BYTES_MAX - end) / ANSWER);
    let mut flags = number(message, 2).unwrap_or(0) & (OPCODE | WANTS_RECURSION);
    flags |= IS_RESPONSE | IS_AUTHORITATIVE | code;
    if fitting < addresses.len() {
        flags |= IS_TRUNCATED;
    }
    let mut bytes = message[..2].to_vec();
    let counts = [u16::from(question.is_some()), fitting as u16, 0, 0];
    for number in [flags].into_iter().chain(counts) {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(&message[HEADER..end]);
    for address in &addresses[..fitting] {
        // The name is the one of the question.
        bytes.extend([0xC0, HEADER as u8]);
        bytes.extend(TYPE_A.to_be_bytes());
        bytes.extend(CLASS_IN.to_be_bytes());
        bytes.extend(TTL.to_be_bytes());
        bytes.extend(4_u16.to_be_bytes());
        bytes.extend(address);
    }
    bytes
}

fn number(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const TYPE_AAAA: u16 = 28;

    fn ask(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            bytes.push(label.len() as u8);
            bytes.extend(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend(kind.to_be_bytes());
        bytes.extend(CLASS_IN.to_be_bytes());
        bytes
    }

    fn names(count: u8) -> Names {
        let addresses = (1..=count).map(|last| Ipv4Addr::new(10, 0, 0, last));
        [("web.fleet".to_owned(), addresses.collect())].into()
    }

    #[test]
    fn addresses_are_answered_to_the_byte() {
        let question = ask("web.fleet", TYPE_A);
        let mut expected = vec![0x12, 0x34, 0x85, 0x00, 0, 1, 0, 2, 0, 0, 0, 0];
        expected.extend(&question[12..]);
        for last in [1, 2] {
            expected.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 0, 0, last]);
        }
        assert_eq!(answer(&question, &names(2)).unwrap(), expected);
    }

    #[test]
    fn names_are_compared_without_case_and_given_back_as_asked() {
        let question = ask("Web.FLEET", TYPE_A);
        let answered = answer(&question, &names(1)).unwrap();
        assert_eq!(answered[3] & 0x0F, 0);
        assert_eq!(answered[12..question.len()], question[12..]);
    }

    #[test]
    fn unknown_names_do_not_exist() {
        let question = ask("web-3.web.fleet", TYPE_A);
        let answered = answer(&question, &names(1)).unwrap();
        assert_eq!(answered[2..8], [0x85, 0x03, 0, 1, 0, 0]);
        assert_eq!(answered.len(), question.len());
    }

    /// "No such name" would make a client give up on the address of the other kind, too.
    #[test]
    fn known_names_without_an_address_of_version_6_exist() {
        let answered = answer(&ask("web.fleet", TYPE_AAAA), &names(1)).unwrap();
        assert_eq!(answered[2..8], [0x85, 0x00, 0, 1, 0, 0]);
    }

    #[test]
    fn answers_that_are_too_long_are_cut_and_say_so() {
        let answered = answer(&ask("web.fleet", TYPE_A), &names(40)).unwrap();
        assert!(answered.len() <= BYTES_MAX, "{}", answered.len());
        let flags = number(&answered, 2).unwrap();
        assert_ne!(flags & IS_TRUNCATED, 0);
        assert_eq!(number(&answered, 6), Some(30));
    }

    #[test]
    fn what_is_no_question_is_refused_or_ignored() {
        let question = ask("web.fleet", TYPE_A);
        assert_eq!(answer(&[], &names(1)), None);
        assert_eq!(answer(&question[..11], &names(1)), None);
        let mut response = question.clone();
        response[2] |= 0x80;
        assert_eq!(
            answer(&response, &names(1)),
            None,
            "two servers would talk for ever"
        );
        for end in 12..question.len() {
            let answered = answer(&question[..end], &names(1)).unwrap();
            assert_eq!((answered.len(), answered[3]), (12, 0x01), "{end}");
        }
        let mut pointer = question.clone();
        pointer[12] = 0xC0;
        assert_eq!(answer(&pointer, &names(1)).unwrap()[3], 0x01);
        let mut update = question;
        update[2] = 0x28;
        assert_eq!(answer(&update, &names(1)).unwrap()[3], 0x04);
    }
}
