//! Calling a function with its arguments in a tuple.

/// What can be called once with the arguments `Args`, a tuple: any `FnOnce(A, ..) -> R` of up to eight arguments.
///
/// Threads share their memory, so such a function may capture, and nothing has to be encoded.
pub trait CallOnce<Args>: Send + 'static {
    /// What it returns.
    type Output: Send + 'static;

    /// Calls it.
    fn call_once(self, args: Args) -> Self::Output;
}

/// What several threads can call at the same time with the arguments `Args`, a tuple: any `Fn(A, ..) -> R` of up to eight
/// arguments.
pub trait Call<Args>: CallOnce<Args> + Sync {
    /// Calls it.
    fn call(&self, args: Args) -> Self::Output;
}

macro_rules! call {
    ($($arg:ident $value:ident),*) => {
        impl<F, R, $($arg),*> CallOnce<($($arg,)*)> for F
        where
            F: FnOnce($($arg),*) -> R + Send + 'static,
            R: Send + 'static,
        {
            type Output = R;

            #[inline]
            fn call_once(self, ($($value,)*): ($($arg,)*)) -> R {
                self($($value),*)
            }
        }

        impl<F, R, $($arg),*> Call<($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> R + Send + Sync + 'static,
            R: Send + 'static,
        {
            #[inline]
            fn call(&self, ($($value,)*): ($($arg,)*)) -> R {
                self($($value),*)
            }
        }
    };
}

call!();
call!(A a);
call!(A a, B b);
call!(A a, B b, C c);
call!(A a, B b, C c, D d);
call!(A a, B b, C c, D d, E e);
call!(A a, B b, C c, D d, E e, G g);
call!(A a, B b, C c, D d, E e, G g, H h);
call!(A a, B b, C c, D d, E e, G g, H h, I i);
