//! A client component that does whatever a client should not: a compromised one, as it were. What it does is chosen
//! by the `aname` that it is started with: one of a few behaviours, shown when somebody asks for the attributes of a file,
//! or a script, a piece of which is played in each call.

#[cfg(target_arch = "wasm32")]
mod component;
#[cfg(target_arch = "wasm32")]
mod script;
