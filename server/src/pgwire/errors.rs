//! Errors and notices as messages of the protocol.

use pgwire::messages::response::{ErrorResponse, NoticeResponse};

use crate::sql::Error;

/// The longest text of one field; the protocol bounds the whole message.
const FIELD_BYTES_MAX: usize = 4096;

const SUCCESSFUL_COMPLETION: &str = "00000";

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    /// The connection ends.
    Fatal,
}

/// An error, with all that is known of it.
pub fn response(error: &Error, severity: Severity) -> ErrorResponse {
    let severity = match severity {
        Severity::Error => "ERROR",
        Severity::Fatal => "FATAL",
    };
    let position = error.position.map(|p| p.to_string());
    let schema = error.table.as_ref().map(|_| "public".to_string());
    let mut fields = vec![
        (b'S', severity.to_string()),
        (b'V', severity.to_string()),
        (b'C', error.sqlstate.to_string()),
        (b'M', cut(&error.message)),
    ];
    let optional = [
        (b'D', &error.detail),
        (b'H', &error.hint),
        (b'P', &position),
        (b's', &schema),
        (b't', &error.table),
        (b'c', &error.column),
        (b'n', &error.constraint),
    ];
    fields.extend(optional.into_iter().filter_map(|(code, text)| Some((code, cut(text.as_ref()?)))));
    ErrorResponse::new(fields)
}

/// Something the client may want to know.
pub fn notice(message: &str) -> NoticeResponse {
    NoticeResponse::new(vec![
        (b'S', "NOTICE".to_string()),
        (b'V', "NOTICE".to_string()),
        (b'C', SUCCESSFUL_COMPLETION.to_string()),
        (b'M', cut(message)),
    ])
}

/// A text that fits, and without the zero byte that would end it.
fn cut(text: &str) -> String {
    let text = text.replace('\0', " ");
    if text.len() <= FIELD_BYTES_MAX {
        return text;
    }
    let end = (0..=FIELD_BYTES_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{}...", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_keeps_all_that_is_known_of_it() {
        let mut error = Error::new("23505", "duplicate key").detail("Key (id)=(1) already exists.").at(Some(3));
        error.table = Some("t".into());
        error.constraint = Some("t_pkey".into());
        let fields = response(&error, Severity::Error).fields;
        let get = |code: u8| fields.iter().find(|f| f.0 == code).map(|f| f.1.as_str());
        assert_eq!((get(b'S'), get(b'C'), get(b'M')), (Some("ERROR"), Some("23505"), Some("duplicate key")));
        assert_eq!(
            (get(b'P'), get(b's'), get(b't'), get(b'n')),
            (Some("3"), Some("public"), Some("t"), Some("t_pkey"))
        );
        assert_eq!(get(b'H'), None);
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let text = cut(&"é".repeat(5000));
        assert!(text.len() <= FIELD_BYTES_MAX + 3 && text.ends_with("é..."));
    }
}
