// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: shared/exclusive locks that are tried and never waited for.
 */
#include <linux/bug.h>

#include "tdxsim.h"

bool tdxsim_trylock(struct tdxsim_lock *lock, enum tdxsim_lock_mode mode)
{
	u16 old = READ_ONCE(lock->word);
	u16 new;

	do {
		if (mode == TDXSIM_EXCLUSIVE) {
			if (old)
				return false;
			new = TDXSIM_LOCK_EXCLUSIVE;
		} else {
			if (old >= TDXSIM_LOCK_EXCLUSIVE - 1)
				return false;
			new = old + 1;
		}
	} while (!try_cmpxchg_acquire(&lock->word, &old, new));

	return true;
}

void tdxsim_unlock(struct tdxsim_lock *lock, enum tdxsim_lock_mode mode)
{
	u16 old = READ_ONCE(lock->word);

	if (mode == TDXSIM_EXCLUSIVE) {
		WARN_ON_ONCE(old != TDXSIM_LOCK_EXCLUSIVE);
		/* Pairs with tdxsim_trylock(). */
		smp_store_release(&lock->word, 0);
		return;
	}

	WARN_ON_ONCE(!old || old == TDXSIM_LOCK_EXCLUSIVE);
	while (!try_cmpxchg_release(&lock->word, &old, old - 1))
		;
}
