//! A small JSON tree, made once per request by the node that received it. The replicated path
//! never sees one: see [`crate::Patch`].
//!
//! Guarantees: no input overflows the stack (the parser keeps its own, bounded stack); numbers
//! keep their text; text that is not UTF-8 is an error. This is the only module that knows the
//! parser library; [`sorted`] reads what needs no tree.

use jiter::{Jiter, JiterError, Peek};

pub use self::number::Number;

pub(crate) mod number;
pub(crate) mod sorted;
#[cfg(test)]
mod tests;

/// The deepest nesting that [`parse`] follows whatever it is asked for, so that trees can be
/// dropped and walked by recursion.
pub const NESTING_CEILING: usize = 128;

/// A JSON value. Members of an object are sorted by key and unique when [`parse`] made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as written.
    Number(Number),
    /// A string, escapes resolved.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object.
    Object(Vec<(String, Value)>),
}

/// What to do with an object that has one key twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DuplicateKeys {
    /// The later member counts, as on AWS.
    LastWins,
    /// The text is refused, as on our own doors.
    Reject,
}

/// Why a text is not a JSON value that we take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON by grammar, or something follows the value.
    #[error("not JSON at byte {offset}")]
    Syntax {
        /// Byte offset of the first problem.
        offset: usize,
    },
    /// The bytes are not UTF-8.
    #[error("not UTF-8 at byte {offset}")]
    NotUtf8 {
        /// Byte offset of the first problem.
        offset: usize,
    },
    /// More levels of nesting than asked for.
    #[error("nested deeper than {max} levels")]
    TooDeep {
        /// The deepest that was allowed.
        max: usize,
    },
    /// A number of more than 64 characters.
    #[error("a number is longer than 64 characters")]
    NumberTooLong,
    /// A number with an exponent beyond ±400.
    #[error("a number has an exponent beyond ±400")]
    NumberOutOfRange,
    /// An object has one key twice, and that was to be refused.
    #[error("the key {key:?} is given twice")]
    DuplicateKey {
        /// The key, cut to 64 bytes.
        key: String,
    },
}

/// Reads one JSON value. `depth_max` counts containers from the outermost one, wrappers included;
/// it is a guard and never above [`NESTING_CEILING`].
pub fn parse(text: &[u8], duplicates: DuplicateKeys, depth_max: usize) -> Result<Value, JsonError> {
    if let Err(error) = std::str::from_utf8(text) {
        return Err(JsonError::NotUtf8 {
            offset: error.valid_up_to(),
        });
    }
    let mut parser = Parser {
        jiter: Jiter::new(text),
        duplicates,
        depth_max: depth_max.min(NESTING_CEILING),
    };
    let value = parser.document()?;
    parser.jiter.finish().map_err(syntax)?;
    Ok(value)
}

struct Parser<'a> {
    jiter: Jiter<'a>,
    duplicates: DuplicateKeys,
    depth_max: usize,
}

/// A container whose members are still being read.
enum Open {
    Array(Vec<Value>),
    Object {
        members: Vec<(String, Value)>,
        key: String,
    },
}

/// What one step of the parser found.
enum Step {
    /// A finished value.
    Value(Value),
    /// A container was opened; its first member comes next.
    Opened(Open, Peek),
}

impl Parser<'_> {
    fn document(&mut self) -> Result<Value, JsonError> {
        let mut stack: Vec<Open> = Vec::new();
        let mut peek = self.jiter.peek().map_err(syntax)?;
        loop {
            let mut value = match self.step(peek, stack.len())? {
                Step::Value(value) => value,
                Step::Opened(open, first) => {
                    stack.push(open);
                    peek = first;
                    continue;
                }
            };
            // Close every container that this value completes.
            loop {
                let Some(open) = stack.pop() else {
                    return Ok(value);
                };
                match self.add(open, value)? {
                    Added::Closed(container) => value = container,
                    Added::More(open, next) => {
                        stack.push(open);
                        peek = next;
                        break;
                    }
                }
            }
        }
    }

    fn step(&mut self, peek: Peek, depth: usize) -> Result<Step, JsonError> {
        if matches!(peek, Peek::Array | Peek::Object) && depth >= self.depth_max {
            return Err(JsonError::TooDeep {
                max: self.depth_max,
            });
        }
        let value = match peek {
            Peek::Null => {
                self.jiter.known_null().map_err(syntax)?;
                Value::Null
            }
            Peek::True | Peek::False => Value::Bool(self.jiter.known_bool(peek).map_err(syntax)?),
            Peek::String => Value::String(self.jiter.known_str().map_err(syntax)?.to_owned()),
            Peek::Array => match self.jiter.known_array().map_err(syntax)? {
                Some(first) => return Ok(Step::Opened(Open::Array(Vec::new()), first)),
                None => Value::Array(Vec::new()),
            },
            Peek::Object => match self.jiter.known_object().map_err(syntax)? {
                Some(key) => {
                    let key = key.to_owned();
                    let first = self.jiter.peek().map_err(syntax)?;
                    return Ok(Step::Opened(
                        Open::Object {
                            members: Vec::new(),
                            key,
                        },
                        first,
                    ));
                }
                None => Value::Object(Vec::new()),
            },
            _ => Value::Number(self.number(peek)?),
        };
        Ok(Step::Value(value))
    }

    fn number(&mut self, peek: Peek) -> Result<Number, JsonError> {
        let offset = self.jiter.current_index();
        if !peek.is_num() {
            return Err(JsonError::Syntax { offset });
        }
        let bytes = match self.jiter.known_number_bytes(peek) {
            Ok(bytes) => bytes,
            // The library gives up on integers of thousands of digits.
            Err(error) if is_out_of_range(&error) => return Err(JsonError::NumberTooLong),
            Err(error) => return Err(syntax(error)),
        };
        // The grammar allows neither NaN nor Infinity, whatever the library would take.
        match std::str::from_utf8(bytes) {
            Ok(text) if number::is_number(bytes) => Number::from_checked(text),
            _ => Err(JsonError::Syntax { offset }),
        }
    }

    fn add(&mut self, open: Open, value: Value) -> Result<Added, JsonError> {
        match open {
            Open::Array(mut items) => {
                items.push(value);
                Ok(match self.jiter.array_step().map_err(syntax)? {
                    Some(next) => Added::More(Open::Array(items), next),
                    None => Added::Closed(Value::Array(items)),
                })
            }
            Open::Object { mut members, key } => {
                members.push((key, value));
                match self.jiter.next_key().map_err(syntax)? {
                    Some(key) => {
                        let key = key.to_owned();
                        let next = self.jiter.peek().map_err(syntax)?;
                        Ok(Added::More(Open::Object { members, key }, next))
                    }
                    None => Ok(Added::Closed(Value::Object(sorted(
                        members,
                        self.duplicates,
                    )?))),
                }
            }
        }
    }
}

/// What adding a value to its container gave.
enum Added {
    Closed(Value),
    More(Open, Peek),
}

fn sorted(
    mut members: Vec<(String, Value)>,
    duplicates: DuplicateKeys,
) -> Result<Vec<(String, Value)>, JsonError> {
    // The sort is stable, so of equal keys the last one written stands last.
    members.sort_by(|left, right| left.0.cmp(&right.0));
    if let Some(pair) = members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        if duplicates == DuplicateKeys::Reject {
            let mut key = pair[0].0.clone();
            key.truncate(key.floor_char_boundary(64));
            return Err(JsonError::DuplicateKey { key });
        }
        members.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
    }
    Ok(members)
}

fn syntax(error: JiterError) -> JsonError {
    JsonError::Syntax {
        offset: error.index,
    }
}

fn is_out_of_range(error: &JiterError) -> bool {
    matches!(
        error.error_type,
        jiter::JiterErrorType::JsonError(jiter::JsonErrorType::NumberOutOfRange)
    )
}

impl Value {
    /// The member of an object with this key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Object(members) => members
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a whole, non-negative number, however it is written.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::Number(number) => number.as_u64(),
            _ => None,
        }
    }

    /// Whether this is an object.
    pub fn is_object(&self) -> bool {
        matches!(self, Value::Object(_))
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Appends the value as compact JSON.
    pub fn write(&self, out: &mut String) {
        match self {
            Value::Null => out.push_str("null"),
            Value::Bool(true) => out.push_str("true"),
            Value::Bool(false) => out.push_str("false"),
            Value::Number(number) => out.push_str(number.as_str()),
            Value::String(text) => write_string(text, out),
            Value::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Value::Object(members) => {
                out.push('{');
                for (at, (key, value)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_string(key, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        self.write(&mut text);
        f.write_str(&text)
    }
}

/// Appends a text as a JSON string: quotes, and the escapes that the grammar demands.
pub fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if !needs_escape(byte) {
            continue;
        }
        out.push_str(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.push_str("\\u00");
                out.push(HEX[usize::from(byte >> 4)] as char);
                out.push(HEX[usize::from(byte & 15)] as char);
            }
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}
