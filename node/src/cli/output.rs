//! What commands print on standard output: tables for people, JSON and YAML for programs.
//!
//! JSON from documents passes through unchanged in value: numbers keep their text, which a tree
//! of floats would not.

use std::io::{self, Write as _};

use antumbra_shadow::json::{self, DuplicateKeys, Number, Value};
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};

/// How results are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON value; one per line where results are a stream.
    Json,
    /// YAML.
    Yaml,
}

/// Deeper than any document, so that whatever a server sends can be shown.
const DEPTH_MAX: usize = 64;

/// Prints text. A reader that went away (`| head`) is not an error worth a message.
pub(crate) fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints one result as JSON or YAML; `table` makes the text for people.
pub(crate) fn print_value(format: Format, value: &Value, table: impl FnOnce() -> String) {
    match format {
        Format::Table => print(&table()),
        Format::Json => print(&format!("{}\n", pretty(value))),
        Format::Yaml => print(&yaml(value)),
    }
}

/// Prints one event of a stream: a line of JSON, a YAML document, or a line for people.
pub(crate) fn print_event(format: Format, value: &Value, line: impl FnOnce() -> String) {
    match format {
        Format::Table => print(&format!("{}\n", line())),
        Format::Json => print(&format!("{value}\n")),
        Format::Yaml => print(&format!("---\n{}", yaml(value))),
    }
}

/// An object with these members.
pub(crate) fn object<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Object(
        members
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect(),
    )
}

/// A JSON string.
pub(crate) fn string(text: impl Into<String>) -> Value {
    Value::String(text.into())
}

/// A JSON number.
pub(crate) fn number(number: u64) -> Value {
    Value::Number(Number::from(number))
}

/// The value of JSON text that a server sent; empty text is null.
pub(crate) fn from_json(text: &str) -> Value {
    if text.is_empty() {
        return Value::Null;
    }
    json::parse(text.as_bytes(), DuplicateKeys::LastWins, DEPTH_MAX)
        .unwrap_or_else(|_| string(text))
}

/// A table with a header line and no frame.
pub(crate) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|name| name.to_uppercase()));
    for row in rows {
        table.add_row(row);
    }
    trimmed(&table)
}

/// A table of names and values.
pub(crate) fn pairs(rows: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    for (name, value) in rows {
        table.add_row([name.to_owned(), value]);
    }
    trimmed(&table)
}

fn trimmed(table: &Table) -> String {
    let lines = table.to_string();
    let lines = lines
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    lines.fold(String::new(), |out, line| out + line + "\n")
}

/// JSON with two spaces of indentation and no line feed at the end.
pub(crate) fn pretty(value: &Value) -> String {
    let mut out = String::new();
    write_pretty(value, 0, &mut out);
    out
}

fn write_pretty(value: &Value, depth: usize, out: &mut String) {
    let indent = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    match value {
        Value::Array(items) if !items.is_empty() => {
            out.push('[');
            for (n, item) in items.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                indent(out, depth + 1);
                write_pretty(item, depth + 1, out);
            }
            indent(out, depth);
            out.push(']');
        }
        Value::Object(members) if !members.is_empty() => {
            out.push('{');
            for (n, (key, value)) in members.iter().enumerate() {
                out.push_str(if n > 0 { "," } else { "" });
                indent(out, depth + 1);
                json::write_string(key, out);
                out.push_str(": ");
                write_pretty(value, depth + 1, out);
            }
            indent(out, depth);
            out.push('}');
        }
        leaf => leaf.write(out),
    }
}

/// Block YAML. Strings are quoted as in JSON, which YAML 1.2 reads alike.
fn yaml(value: &Value) -> String {
    let mut out = String::new();
    write_yaml(value, 0, &mut out);
    out
}

fn write_yaml(value: &Value, depth: usize, out: &mut String) {
    let indent = |out: &mut String| out.extend(std::iter::repeat_n("  ", depth));
    match value {
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                indent(out);
                out.push('-');
                write_yaml_below(item, depth, out);
            }
        }
        Value::Object(members) if !members.is_empty() => {
            for (key, value) in members {
                indent(out);
                write_yaml_key(key, out);
                out.push(':');
                write_yaml_below(value, depth, out);
            }
        }
        leaf => {
            indent(out);
            leaf.write(out);
            out.push('\n');
        }
    }
}

/// What follows `-` or `key:`: a scalar on the same line, a container below.
fn write_yaml_below(value: &Value, depth: usize, out: &mut String) {
    let nested = match value {
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => false,
    };
    if nested {
        out.push('\n');
        write_yaml(value, depth + 1, out);
    } else {
        out.push(' ');
        value.write(out);
        out.push('\n');
    }
}

fn write_yaml_key(key: &str, out: &mut String) {
    // YAML 1.1 readers take these for booleans and null.
    const WORDS: &[&str] = &["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let plain = key.starts_with(|c: char| c.is_ascii_alphabetic())
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        && !WORDS.contains(&key.to_ascii_lowercase().as_str());
    if plain {
        out.push_str(key);
    } else {
        json::write_string(key, out);
    }
}

#[cfg(test)]
mod tests {
    use super::{from_json, pretty, table, yaml};

    const TEXT: &str =
        r#"{"on":true,"n":123456789012345678901234567890,"a":[1,{"b":[]}],"s":"x: \"y\""}"#;

    /// A version or serial number that does not fit a float must come out as it went in.
    #[test]
    fn json_keeps_the_text_of_numbers() {
        let text = pretty(&from_json(TEXT));
        assert!(text.contains("123456789012345678901234567890"), "{text}");
        assert_eq!(from_json(&text), from_json(TEXT));
    }

    /// YAML must be the same value, `on` must not turn into a boolean key.
    #[test]
    fn yaml_is_the_same_value() {
        let expected = "\
a:
  - 1
  -
    b: []
\"n\": 123456789012345678901234567890
\"on\": true
s: \"x: \\\"y\\\"\"
";
        assert_eq!(yaml(&from_json(TEXT)), expected);
    }

    /// Tables are also cut and grepped: no frame, no trailing blanks.
    #[test]
    fn tables_are_plain() {
        let rows = [
            vec!["lamp-1".to_owned(), "3".to_owned()],
            vec!["x".to_owned(), "12".to_owned()],
        ];
        assert_eq!(
            table(&["device", "version"], rows),
            "DEVICE  VERSION\nlamp-1  3\nx       12\n"
        );
    }
}
