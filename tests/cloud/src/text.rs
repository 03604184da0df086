//! The two texts that a `PUT /vm` passes through: OneGate's quoting, and oned's template grammar.
//!
//! Both were read off what the real servers stored (captures/roundtrip-puma.json): the quoting is
//! done character by character, knows nothing of what it quotes, and so damages commas, brackets,
//! backslashes, inner quotes and an empty last value. The grammar takes the longest match, which is
//! why some damage is stored and some refused.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::CharIndices;

use crate::attributes::{Attributes, Value};

/// What OneGate makes of a body before it gives it to oned.
pub fn quote(data: &str) -> String {
    let data = data.replace("\\n", "\n");
    let mut quoted = String::with_capacity(data.len() + 16);
    let (mut open, mut previous) = (false, None);
    let mut characters = data.chars().peekable();
    while let Some(character) = characters.next() {
        let next = characters.peek().copied();
        let closes = matches!(character, '\n' | '\\' | ',' | ']');
        if closes && previous != Some('"') {
            quoted.push('"');
        }
        quoted.push(character);
        match character {
            '\n' | '\\' => open = false,
            ',' | ']' => {}
            '=' if !open && !matches!(next, Some('"' | '[')) => {
                quoted.push('"');
                open = true;
            }
            '=' if !open => {}
            _ if open && next.is_none() && character != '"' => quoted.push('"'),
            _ => {}
        }
        previous = Some(character);
    }
    quoted
}

/// A text that oned's parser refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in a template")]
pub struct SyntaxError;

#[derive(Debug, PartialEq)]
enum Token {
    Name(String),
    Text(String),
    Equal,
    Comma,
    Open,
    Close,
}

/// Reads a template: `NAME = value` lines and vectors `NAME = [ A = "1", B = "2" ]`.
///
/// # Errors
/// If oned's grammar does not accept it.
pub fn parse(text: &str) -> Result<Attributes, SyntaxError> {
    // oned receives it as XML, which has no other control characters.
    if text.chars().any(|character| character < ' ' && !matches!(character, '\t' | '\n' | '\r')) {
        return Err(SyntaxError);
    }
    let mut tokens = tokens(text).into_iter().peekable();
    let mut attributes = Attributes::default();
    while let Some(token) = tokens.next() {
        let (Token::Name(name), Some(Token::Equal)) = (token, tokens.next()) else { return Err(SyntaxError) };
        let value = match tokens.next() {
            Some(Token::Text(text)) => Value::Text(text),
            Some(Token::Open) => Value::Vector(vector(&mut tokens)?),
            _ => return Err(SyntaxError),
        };
        // A name may not begin with a digit in XML.
        let prefix = if name.starts_with(|first: char| first.is_ascii_digit()) { "ONE_" } else { "" };
        attributes.add(&format!("{prefix}{name}"), value);
    }
    Ok(attributes)
}

fn vector(tokens: &mut impl Iterator<Item = Token>) -> Result<BTreeMap<String, String>, SyntaxError> {
    let mut vector = BTreeMap::new();
    loop {
        let (Some(Token::Name(name)), Some(Token::Equal), Some(Token::Text(text))) =
            (tokens.next(), tokens.next(), tokens.next())
        else {
            return Err(SyntaxError);
        };
        vector.insert(name.to_uppercase(), text);
        match tokens.next() {
            Some(Token::Comma) => {}
            Some(Token::Close) => return Ok(vector),
            _ => return Err(SyntaxError),
        }
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut characters = text.char_indices().peekable();
    let mut line_start = true;
    while let Some((_, character)) = characters.next() {
        match character {
            '\n' => {
                line_start = true;
                continue;
            }
            ' ' | '\t' | '\r' => continue,
            '#' if line_start => while characters.next_if(|(_, character)| *character != '\n').is_some() {},
            '[' => tokens.push(Token::Open),
            ']' => tokens.push(Token::Close),
            ',' => tokens.push(Token::Comma),
            '=' => {
                tokens.push(Token::Equal);
                tokens.extend(value(text, &mut characters));
            }
            'A'..='Z' | 'a'..='z' | '0'..='9' | '_' => {
                let mut name = String::from(character);
                while let Some((_, character)) = characters
                    .next_if(|(_, character)| character.is_ascii_alphanumeric() || *character == '_')
                {
                    name.push(character);
                }
                tokens.push(Token::Name(name));
            }
            // Anything else outside a value is passed over without a word.
            _ => {}
        }
        line_start = false;
    }
    tokens
}

/// What follows `=`: a quoted text or a bare word, whichever is longer; nothing before a bracket.
fn value(text: &str, characters: &mut Peekable<CharIndices<'_>>) -> Option<Token> {
    while characters.next_if(|(_, character)| matches!(character, ' ' | '\t' | '\r' | '\n')).is_some() {}
    let start = characters.peek()?.0;
    let rest = &text[start..];
    let bare = rest.find([' ', '\t', '\r', '\n', ',', '[', ']', '=']).unwrap_or(rest.len());
    let quoted = quoted_length(rest);
    let length = bare.max(quoted);
    if length == 0 {
        return None;
    }
    while characters.next_if(|(at, _)| *at < start + length).is_some() {}
    let value = if quoted >= bare { &rest[1..quoted - 1] } else { &rest[..bare] };
    Some(Token::Text(value.replace("\\\"", "\"").trim().to_owned()))
}

/// How many bytes the quoted text at the start of `rest` has, quotes included; 0 if there is none.
fn quoted_length(rest: &str) -> usize {
    if !rest.starts_with('"') {
        return 0;
    }
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            '"' if !escaped => return at + 1,
            '\\' if !escaped => escaped = true,
            _ => escaped = false,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(body: &str) -> String {
        parse(&quote(body))
            .map_or("refused".to_owned(), |attributes| serde_json::to_string(&attributes).unwrap())
    }

    #[test]
    fn what_is_stored_of_a_body() {
        assert_eq!(stored("A=two words\nB=YWJj=="), r#"{"A":"two words","B":"YWJj=="}"#);
        assert_eq!(stored("A="), r#"{"A":"\""}"#);
        assert_eq!(stored("A=\nB=2"), r#"{"A":"","B":"2"}"#);
        assert_eq!(stored("VEC=[A=1,B=2]"), r#"{"VEC":{"A":"1","B":"2\""}}"#);
        assert_eq!(stored("# comment\n1a = 1"), r#"{"ONE_1A":"1"}"#);
        for body in ["A=a,b", "A=x[1]y", "A=l1\nl2", "A-B=1", "A=a\u{1}b", "JUSTAKEY"] {
            assert_eq!(stored(body), "refused", "{body:?}");
        }
    }

    #[test]
    fn a_written_template_is_read_whole() {
        let text = "NIC = [\n  NAME = \"NIC0\",\n  NETWORK_ID = \"$Public\" ]\nA = \"<ETH0_EP0>\"\n";
        let expected = r#"{"A":"<ETH0_EP0>","NIC":{"NAME":"NIC0","NETWORK_ID":"$Public"}}"#;
        assert_eq!(serde_json::to_string(&parse(text).unwrap()).unwrap(), expected);
    }
}
