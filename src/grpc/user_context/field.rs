//! Tail: the octets that are appended to every message of a verified user.

use std::rc::Rc;

use crate::grpc::protobuf::put_octets;

/// Fields of `UserContext`, and its own field in every request.
const USER_ID: u8 = 1;
const USER_NAME: u8 = 2;
const USER_CONTEXT: u8 = 2;

/// One `user_context` of a verified user, as protobuf. Clones share the octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserContextField(Rc<[u8]>);

impl UserContextField {
    /// The tail of this user. Both names are written even when they are empty: what is absent
    /// would not overrule what the client claims.
    #[must_use]
    pub fn new(user_id: &str, user_name: &str) -> Self {
        let mut context = Vec::new();
        put_octets(&mut context, USER_ID, user_id.as_bytes());
        put_octets(&mut context, USER_NAME, user_name.as_bytes());
        let mut tail = Vec::new();
        put_octets(&mut tail, USER_CONTEXT, &context);
        Self(tail.into())
    }

    /// The octets to append.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_one_user_context_with_both_names() {
        let tail = UserContextField::new("bob", "Bob");
        assert_eq!(tail.octets(), b"\x12\x0a\x0a\x03bob\x12\x03Bob");
        assert_eq!(UserContextField::new("", "").octets(), b"\x12\x04\x0a\x00\x12\x00");
    }

    #[test]
    fn lengths_above_127_take_two_octets() {
        let tail = UserContextField::new(&"u".repeat(200), "");
        assert!(tail.octets().starts_with(b"\x12\xcd\x01\x0a\xc8\x01uuu"));
        assert_eq!(tail.octets().len(), 208);
    }
}
