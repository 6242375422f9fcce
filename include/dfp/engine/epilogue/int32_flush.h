/* Part of the micro-kernel: the INT32 sums are the result. */
(void)from_zero;
EACH_ROW EACH_VECTOR dfp_store_sums((uint32_t *)t->c[r] + v * DFP_LANES, sum[r][v]);
