//! Meridian's client side.
