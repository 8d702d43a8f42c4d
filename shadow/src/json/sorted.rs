//! From the text of an object to its leaves in one pass, without a tree. Only for texts whose members
//! stand in key order already, each once: most programs print them so.

use bytes::Bytes;
use jiter::{Jiter, Peek};

use crate::leaves::{Form, Stamp, Writer, path};
use crate::limits::Limits;

use super::{number, write_string};

/// What is reserved for the leaves of a text at first.
const RESERVED_BYTES_MAX: usize = 1024;

/// The leaves of an object as a plain run, the same bytes that a patch of its tree has. `None` for
/// everything that needs a closer look: what is no object, breaks the grammar or a limit, has members out
/// of order, or objects inside arrays.
pub(crate) fn leaves(text: &str, limits: &Limits) -> Option<Bytes> {
    let mut walk = Walk {
        jiter: Jiter::new(text.as_bytes()),
        limits,
        // Not the whole length: it may be blanks, and the patch keeps what is reserved.
        out: Writer::new(Form::Plain, text.len().min(RESERVED_BYTES_MAX)),
        path: Vec::with_capacity(64),
        key: Vec::with_capacity(32),
        text: String::new(),
    };
    if walk.jiter.peek().ok()? != Peek::Object {
        return None;
    }
    if walk.enter()? {
        walk.members(1)?;
    }
    walk.jiter.finish().ok()?;
    Some(Bytes::from(walk.out.finish()))
}

/// A walk over the text; recursion ends at the depth limit. Every `None` ends it.
struct Walk<'a> {
    jiter: Jiter<'a>,
    limits: &'a Limits,
    out: Writer,
    /// The keys from the root to where the walk is.
    path: Vec<u8>,
    /// The key that was read last, as a component of a path.
    key: Vec<u8>,
    /// The text of a leaf.
    text: String,
}

impl Walk<'_> {
    /// Opens an object. False when it is empty, else its first key is there.
    fn enter(&mut self) -> Option<bool> {
        match self.jiter.known_object().ok()? {
            Some(key) => keep(key, self.limits, &mut self.key).map(|()| true),
            None => Some(false),
        }
    }

    fn next_key(&mut self) -> Option<bool> {
        match self.jiter.next_key().ok()? {
            Some(key) => keep(key, self.limits, &mut self.key).map(|()| true),
            None => Some(false),
        }
    }

    /// The members of an object from the first on, whose key is there.
    fn members(&mut self, level: usize) -> Option<()> {
        if level > self.limits.depth() {
            return None;
        }
        let (start, mut end) = (self.path.len(), self.path.len());
        loop {
            // The order of components is the order of keys.
            if self.key[..] <= self.path[start..end] {
                return None;
            }
            self.path.truncate(start);
            self.path.extend_from_slice(&self.key);
            end = self.path.len();
            self.member(level)?;
            self.path.truncate(end);
            if !self.next_key()? {
                self.path.truncate(start);
                return Some(());
            }
        }
    }

    fn member(&mut self, level: usize) -> Option<()> {
        self.text.clear();
        match self.jiter.peek().ok()? {
            Peek::Object => {
                if self.enter()? {
                    return self.members(level + 1);
                }
                self.text.push_str("{}");
            }
            Peek::Null => {
                self.jiter.known_null().ok()?;
                self.text.push_str("null");
            }
            Peek::Array => self.array(level)?,
            peek => self.scalar(peek)?,
        }
        let leaf = self.text.as_bytes();
        self.out.put(&self.path, leaf, Stamp::default());
        Some(())
    }

    /// An array inside a container at `level`, but none with objects.
    fn array(&mut self, level: usize) -> Option<()> {
        let mut next = self.jiter.known_array().ok()?;
        self.text.push('[');
        while let Some(peek) = next {
            match peek {
                Peek::Object | Peek::Null => return None,
                Peek::Array if level + 1 > self.limits.depth() => return None,
                Peek::Array => self.array(level + 1)?,
                peek => self.scalar(peek)?,
            }
            next = self.jiter.array_step().ok()?;
            if next.is_some() {
                self.text.push(',');
            }
        }
        self.text.push(']');
        Some(())
    }

    fn scalar(&mut self, peek: Peek) -> Option<()> {
        match peek {
            Peek::True | Peek::False => {
                let value = self.jiter.known_bool(peek).ok()?;
                self.text.push_str(if value { "true" } else { "false" });
            }
            Peek::String => write_string(self.jiter.known_str().ok()?, &mut self.text),
            _ => {
                if !peek.is_num() {
                    return None;
                }
                let bytes = self.jiter.known_number_bytes(peek).ok()?;
                if !number::is_number(bytes) || number::check_range(bytes).is_err() {
                    return None;
                }
                self.text.push_str(std::str::from_utf8(bytes).ok()?);
            }
        }
        Some(())
    }
}

/// Keeps a key as a component of a path.
fn keep(key: &str, limits: &Limits, component: &mut Vec<u8>) -> Option<()> {
    component.clear();
    path::push(component, key);
    (key.len() <= limits.key_bytes_max as usize).then_some(())
}
