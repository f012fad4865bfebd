/* ops.h - the functions of every operator family, for the table in engine/registry.c.
 * One block a file of this folder; what each must do is in engine/op.h. */
#ifndef ENG_OPS_H
#define ENG_OPS_H

#include "engine/op.h"

/* Flags of an operator whose loops are eng_walk's. */
#define ENG_EW (ENG_CL_ALL | ENG_INPLACE | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF)
#define ENG_T_FLOAT8 \
    (ENG_T(ENG_FLOAT8E4M3FN) | ENG_T(ENG_FLOAT8E4M3FNUZ) | ENG_T(ENG_FLOAT8E5M2) | ENG_T(ENG_FLOAT8E5M2FNUZ))
#define ENG_T_FLOAT6 (ENG_T(ENG_FLOAT6E2M3) | ENG_T(ENG_FLOAT6E3M2))
#define ENG_T_INT8 (ENG_T(ENG_UINT8) | ENG_T(ENG_INT8))
#define ENG_T_QUANTIZED                                                                                        \
    (ENG_T_INT8 | ENG_T(ENG_UINT16) | ENG_T(ENG_INT16) | ENG_T(ENG_UINT4) | ENG_T(ENG_INT4) |                  \
     ENG_T(ENG_UINT2) | ENG_T(ENG_INT2) | ENG_T_FLOAT8 | ENG_T_FLOAT6 | ENG_T(ENG_FLOAT4E2M1))

/* binary.c */
eng_import_fn eng_pair_import, eng_prelu_import;
eng_infer_fn eng_arith_infer, eng_prelu_infer, eng_pow_infer;
/* Multiplies Mul each channel of float images, channels last, by a factor? The input that has the images, else ENG_NONE. */
int eng_mul_of_channels(const eng_ctx *c);
eng_run_fn eng_add_run, eng_sub_run, eng_mul_run, eng_div_run, eng_mod_run, eng_prelu_run, eng_pow_run;

/* unary.c */
eng_infer_fn eng_kind_infer;
eng_run_fn eng_abs_run, eng_neg_run, eng_sign_run, eng_isnan_run, eng_isinf_run, eng_exp_run, eng_log_run,
    eng_erf_run, eng_sin_run, eng_cos_run, eng_tan_run, eng_asin_run, eng_acos_run, eng_atan_run,
    eng_sinh_run, eng_cosh_run, eng_asinh_run, eng_acosh_run, eng_atanh_run, eng_sqrt_run,
    eng_reciprocal_run, eng_floor_run, eng_ceil_run, eng_round_run;

/* activation.c */
eng_import_fn eng_selu_import;
eng_infer_fn eng_gelu_infer, eng_swiglu_infer, eng_bias_gelu_infer, eng_bias_split_gelu_infer;
eng_run_fn eng_gelu_run, eng_swiglu_run, eng_bias_gelu_run, eng_fast_gelu_run, eng_bias_split_gelu_run,
    eng_relu_run, eng_sigmoid_run, eng_tanh_run, eng_softplus_run, eng_softsign_run, eng_mish_run,
    eng_elu_run, eng_celu_run, eng_selu_run, eng_swish_run, eng_leaky_relu_run, eng_hard_sigmoid_run,
    eng_hard_swish_run, eng_thresholded_relu_run, eng_shrink_run, eng_ms_gelu_run, eng_quick_gelu_run;

/* In random.c: drop `ratio` of the elements of input 0, and multiply the others so that the mean stays. */
od_code eng_drop_some(eng_ctx *c, double ratio, od_status *st);

/* clip.c */
eng_import_fn eng_clip_import;
eng_infer_fn eng_clip_infer;
eng_run_fn eng_clip_run;

/* compare.c */
eng_infer_fn eng_compare_infer;
eng_run_fn eng_equal_run, eng_less_run, eng_greater_run, eng_less_or_equal_run, eng_greater_or_equal_run;

/* logic.c */
eng_run_fn eng_and_run, eng_or_run, eng_xor_run, eng_not_run;

/* bitwise.c */
eng_infer_fn eng_bit_shift_infer;
eng_run_fn eng_bitwise_and_run, eng_bitwise_or_run, eng_bitwise_xor_run, eng_bitwise_not_run,
    eng_bit_shift_run;

/* where.c */
eng_infer_fn eng_where_infer;
eng_run_fn eng_where_run;

/* minmax.c */
eng_infer_fn eng_variadic_infer;
eng_run_fn eng_min_run, eng_max_run, eng_sum_run, eng_mean_run;

/* cast.c */
eng_import_fn eng_cast_import;
eng_infer_fn eng_cast_infer, eng_cast_like_infer, eng_bit_cast_infer;
eng_run_fn eng_cast_run, eng_bit_cast_run;

/* quantize.c */
eng_infer_fn eng_quantize_infer, eng_dequantize_infer, eng_dynamic_quantize_infer;
eng_layout_fn eng_quantize_layout;
eng_run_fn eng_quantize_run, eng_dequantize_run, eng_dynamic_quantize_run;

/* attention_own.c */
eng_prepare_fn eng_attention_own_prepare;
eng_infer_fn eng_attention_own_infer;
eng_run_fn eng_attention_own_run;

/* qmatmul.c */
eng_infer_fn eng_matmul_integer_infer, eng_qlinear_matmul_infer, eng_matmul_integer_to_float_infer,
    eng_dynamic_quantize_matmul_infer, eng_qgemm_infer, eng_matmul_nbits_infer;
eng_run_fn eng_matmul_integer_run, eng_qlinear_matmul_run, eng_matmul_integer_to_float_run,
    eng_dynamic_quantize_matmul_run, eng_qgemm_run, eng_matmul_nbits_run;

/* qconv.c */
eng_infer_fn eng_conv_integer_infer, eng_qlinear_conv_infer;
eng_run_fn eng_conv_integer_run, eng_qlinear_conv_run;

/* random.c */
eng_infer_fn eng_random_infer, eng_random_like_infer, eng_bernoulli_infer, eng_multinomial_infer;
eng_run_fn eng_random_normal_run, eng_random_uniform_run, eng_bernoulli_run, eng_multinomial_run;

/* qlinear.c */
eng_infer_fn eng_qlinear_pair_infer, eng_qlinear_unary_infer, eng_qlinear_concat_infer,
    eng_qlinear_softmax_infer, eng_qlinear_average_pool_infer, eng_qlinear_global_average_pool_infer;
eng_run_fn eng_qlinear_add_run, eng_qlinear_mul_run, eng_qlinear_sigmoid_run, eng_qlinear_leaky_relu_run,
    eng_qlinear_concat_run, eng_qlinear_softmax_run, eng_qlinear_average_pool_run,
    eng_qlinear_global_average_pool_run;

/* ---- convolution, pooling, images ---- */

/* conv.c */
eng_prepare_fn eng_conv_prepare;
eng_infer_fn eng_conv_infer;
eng_layout_fn eng_conv_layout;
eng_run_fn eng_conv_run;

/* pool.c */
eng_prepare_fn eng_pool_prepare;
eng_infer_fn eng_pool_infer, eng_lp_pool_infer;
eng_run_fn eng_max_pool_run, eng_average_pool_run, eng_lp_pool_run;
double eng_lp_order(const eng_node *n); /* attribute p */

/* conv_transpose.c */
eng_prepare_fn eng_conv_transpose_prepare;
eng_infer_fn eng_conv_transpose_infer;
eng_run_fn eng_conv_transpose_run;

/* resize.c */
eng_import_fn eng_resize10_import, eng_upsample1_import;
eng_prepare_fn eng_resize_prepare;
eng_infer_fn eng_resize_infer;
eng_layout_fn eng_resize_layout;
eng_run_fn eng_resize_run;

/* grid_sample.c, affine_grid.c */
eng_prepare_fn eng_grid_sample_prepare;
eng_infer_fn eng_grid_sample_infer, eng_affine_grid_infer;
eng_run_fn eng_grid_sample_run, eng_affine_grid_run;

/* roi.c */
eng_import_fn eng_roi_align10_import;
eng_infer_fn eng_roi_align_infer, eng_max_roi_pool_infer, eng_crop_and_resize_infer;
eng_run_fn eng_roi_align_run, eng_max_roi_pool_run, eng_crop_and_resize_run;

/* nms.c, unpool.c, deform_conv.c, causal_conv.c */
eng_prepare_fn eng_deform_conv_prepare;
eng_infer_fn eng_nms_infer, eng_max_unpool_infer, eng_deform_conv_infer, eng_causal_conv_infer;
eng_run_fn eng_nms_run, eng_max_unpool_run, eng_deform_conv_run, eng_causal_conv_run;

/* nhwc.c */
eng_import_fn eng_fused_conv_import;
eng_infer_fn eng_fused_conv_infer, eng_nhwc_conv_infer, eng_nhwc_max_pool_infer, eng_ms_qlinear_conv_infer;
eng_run_fn eng_nhwc_conv_run, eng_nhwc_max_pool_run, eng_ms_qlinear_conv_run;

/* image_decoder.c */
eng_infer_fn eng_image_decoder_infer;
eng_run_fn eng_image_decoder_run;

/* old_images.c */
eng_infer_fn eng_image_scaler_infer, eng_crop_infer;
eng_run_fn eng_image_scaler_run, eng_affine_run, eng_crop_run;

/* global_pool.c */
eng_infer_fn eng_global_pool_infer;
eng_run_fn eng_global_average_pool_run, eng_global_max_pool_run, eng_global_lp_pool_run;

/* ---- moving data: shapes, indexing ---- */

/* identity.c */
eng_infer_fn eng_dropout_infer, eng_shape_infer, eng_size_infer, eng_constant_of_shape_infer, eng_range_infer,
    eng_eye_like_infer;
eng_alias_fn eng_dropout_alias;
eng_run_fn eng_identity_run, eng_dropout_run, eng_shape_run, eng_size_run, eng_constant_of_shape_run, eng_range_run,
    eng_eye_like_run;

/* reshape.c */
eng_import_fn eng_reshape_import, eng_squeeze_import;
eng_infer_fn eng_reshape_infer, eng_flatten_infer, eng_squeeze_infer, eng_unsqueeze_infer;
eng_layout_fn eng_reshape_layout;
eng_alias_fn eng_reshape_alias;
eng_run_fn eng_reshape_run;

/* transpose.c */
eng_infer_fn eng_transpose_infer;
eng_layout_fn eng_transpose_layout;
eng_alias_fn eng_transpose_alias;
eng_run_fn eng_transpose_run;

/* chain.c */
eng_prepare_fn eng_chain_prepare;
eng_infer_fn eng_chain_infer;
eng_run_fn eng_chain_run;

/* rearrange.c */
eng_infer_fn eng_rearrange_infer;
eng_layout_fn eng_rearrange_layout;
eng_alias_fn eng_rearrange_alias;
eng_run_fn eng_rearrange_run;

/* gather_rows.c */
eng_infer_fn eng_gather_rows_infer;
eng_run_fn eng_gather_rows_run;

/* concat.c */
eng_import_fn eng_concat_import, eng_split_import;
eng_infer_fn eng_concat_infer, eng_split_infer;
eng_alias_fn eng_split_alias;
eng_run_fn eng_concat_run, eng_split_run;

/* slice.c */
eng_import_fn eng_slice_import;
eng_infer_fn eng_slice_infer;
eng_alias_fn eng_slice_alias;
eng_run_fn eng_slice_run;

/* expand.c */
eng_infer_fn eng_expand_infer, eng_tile_infer;
eng_run_fn eng_expand_run, eng_tile_run;

/* gather.c */
eng_infer_fn eng_gather_infer;
eng_layout_fn eng_gather_layout;
eng_alias_fn eng_gather_alias;
eng_run_fn eng_gather_run;

/* pad.c */
eng_import_fn eng_pad_import;
eng_infer_fn eng_pad_infer, eng_center_crop_pad_infer;
eng_alias_fn eng_pad_alias;
eng_run_fn eng_pad_run, eng_center_crop_pad_run;

/* gather_nd.c */
eng_infer_fn eng_gather_elements_infer, eng_gather_nd_infer, eng_compress_infer;
eng_run_fn eng_gather_elements_run, eng_gather_nd_run, eng_compress_run;

/* scatter.c */
eng_infer_fn eng_scatter_elements_infer, eng_scatter_nd_infer, eng_tensor_scatter_infer;
eng_run_fn eng_scatter_elements_run, eng_scatter_nd_run, eng_tensor_scatter_run;

/* depth_space.c */
eng_infer_fn eng_depth_to_space_infer, eng_space_to_depth_infer, eng_col2im_infer;
eng_run_fn eng_depth_to_space_run, eng_space_to_depth_run, eng_col2im_run;

/* onehot.c */
eng_infer_fn eng_one_hot_infer, eng_trilu_infer, eng_non_zero_infer, eng_reverse_sequence_infer;
eng_run_fn eng_one_hot_run, eng_trilu_run, eng_non_zero_run, eng_reverse_sequence_run;

/* unique.c */
eng_infer_fn eng_unique_infer;
eng_run_fn eng_unique_run;

/* ---- matrix products, normalization, reduction ---- */

/* matmul.c, gemm.c */
eng_prepare_fn eng_matmul_prepare, eng_gemm_prepare;
eng_infer_fn eng_matmul_infer, eng_gemm_infer;
eng_run_fn eng_matmul_run, eng_gemm_run;

/* softmax.c */
eng_infer_fn eng_softmax_infer;
eng_layout_fn eng_softmax_layout;
eng_run_fn eng_softmax_run, eng_logsoftmax_run, eng_hardmax_run;

/* reduce.c */
eng_import_fn eng_reduce_import;
eng_infer_fn eng_reduce_infer;
eng_layout_fn eng_reduce_layout;
eng_run_fn eng_reduce_sum_run, eng_reduce_mean_run, eng_reduce_max_run, eng_reduce_min_run, eng_reduce_prod_run,
    eng_reduce_l1_run, eng_reduce_l2_run, eng_reduce_sum_square_run, eng_reduce_log_sum_run,
    eng_reduce_log_sum_exp_run;

/* batchnorm.c, layernorm.c */
eng_infer_fn eng_batchnorm_infer, eng_layernorm_infer;
eng_layout_fn eng_batchnorm_layout;
eng_run_fn eng_batchnorm_run, eng_layernorm_run;

/* channelnorm.c, lpnorm.c */
eng_infer_fn eng_groupnorm_infer, eng_ms_groupnorm_infer, eng_lrn_infer, eng_lpnorm_infer, eng_mvn_infer;
eng_layout_fn eng_channels_layout;
eng_run_fn eng_groupnorm_run, eng_ms_groupnorm_run, eng_lrn_run, eng_lpnorm_run, eng_mvn_run;

/* arg.c, topk.c, cumulative.c */
eng_import_fn eng_topk_import;
eng_infer_fn eng_arg_infer, eng_topk_infer, eng_cumulative_infer;
eng_layout_fn eng_arg_layout;
eng_run_fn eng_argmax_run, eng_argmin_run, eng_topk_run, eng_cumsum_run, eng_cumprod_run;

/* einsum.c, det.c, loss.c */
eng_prepare_fn eng_einsum_prepare;
eng_infer_fn eng_einsum_infer, eng_det_infer, eng_inverse_infer, eng_loss_infer;
eng_run_fn eng_einsum_run, eng_det_run, eng_inverse_run, eng_nll_loss_run, eng_softmax_loss_run;

/* attention.c, rotary.c, linear_attention.c, flex_attention.c */
eng_infer_fn eng_flex_attention_infer, eng_attention_infer, eng_rotary_infer, eng_linear_attention_infer;
eng_run_fn eng_flex_attention_run, eng_attention_op_run, eng_rotary_run, eng_linear_attention_run;

/* ---- control flow, sequences, optionals, text, recurrent networks, signals ---- */

/* control.c, scan.c: all is done in infer; eng_no_run is the run of such */
eng_infer_fn eng_if_infer, eng_loop_infer, eng_scan_infer, eng_scan8_infer;
eng_run_fn eng_if_run, eng_no_run;

/* sequence.c */
eng_infer_fn eng_sequence_empty_infer, eng_sequence_construct_infer, eng_sequence_at_infer, eng_sequence_insert_infer,
    eng_sequence_erase_infer, eng_sequence_length_infer, eng_split_to_sequence_infer, eng_concat_from_sequence_infer,
    eng_sequence_map_infer;
eng_run_fn eng_sequence_length_run, eng_concat_from_sequence_run;

/* optional.c */
eng_infer_fn eng_optional_infer, eng_optional_has_element_infer, eng_optional_get_element_infer;
eng_run_fn eng_optional_has_element_run;

/* rnn.c */
eng_prepare_fn eng_rnn_prepare;
eng_infer_fn eng_rnn_infer;
eng_run_fn eng_rnn_run;

/* signal.c */
eng_import_fn eng_dft17_import;
eng_infer_fn eng_dft_infer, eng_stft_infer, eng_cosine_window_infer, eng_mel_weights_infer;
eng_run_fn eng_dft_run, eng_stft_run, eng_hann_window_run, eng_hamming_window_run, eng_blackman_window_run,
    eng_mel_weights_run;

/* text.c, tfidf.c */
eng_prepare_fn eng_regex_prepare, eng_tfidf_prepare;
eng_infer_fn eng_string_concat_infer, eng_string_split_infer, eng_string_normalizer_infer, eng_regex_infer,
    eng_tfidf_infer;
eng_run_fn eng_string_concat_run, eng_string_split_run, eng_string_normalizer_run, eng_regex_run, eng_tfidf_run;

/* ---- ai.onnx.ml ---- */

/* ml_linear.c */
eng_infer_fn eng_linear_regressor_infer, eng_linear_classifier_infer, eng_svm_regressor_infer, eng_svm_classifier_infer;
eng_run_fn eng_linear_regressor_run, eng_linear_classifier_run, eng_svm_regressor_run, eng_svm_classifier_run;

/* ml_tree.c */
eng_prepare_fn eng_tree_classifier_prepare, eng_tree_regressor_prepare, eng_tree_ensemble_prepare;
eng_infer_fn eng_tree_classifier_infer, eng_tree_regressor_infer;
eng_run_fn eng_trees_run;

/* ml_features.c */
eng_infer_fn eng_array_feature_extractor_infer, eng_ml_float_infer, eng_feature_vectorizer_infer, eng_one_hot_encoder_infer;
eng_run_fn eng_array_feature_extractor_run, eng_binarizer_run, eng_normalizer_run, eng_scaler_run, eng_imputer_run,
    eng_feature_vectorizer_run, eng_one_hot_encoder_run;

/* ml_labels.c */
eng_prepare_fn eng_label_encoder_prepare, eng_label_encoder1_prepare, eng_category_mapper_prepare;
eng_infer_fn eng_label_encoder_infer, eng_two_ways_infer, eng_cast_map_infer, eng_dict_vectorizer_infer, eng_zip_map_infer;
eng_run_fn eng_label_encoder_run, eng_two_ways_run;

/* ---- com.microsoft, beyond the forms of standard operators ---- */

/* ms_attention.c, ms_multihead.c */
eng_prepare_fn eng_ms_attention_prepare;
eng_prepare_fn eng_gqa_prepare;
eng_infer_fn eng_ms_attention_infer, eng_mha_infer, eng_gqa_infer;
eng_run_fn eng_ms_attention_run, eng_mha_run, eng_gqa_run;

/* layernorm.c */
eng_infer_fn eng_skip_layernorm_infer, eng_embed_layernorm_infer;
eng_run_fn eng_skip_layernorm_run, eng_embed_layernorm_run;

#endif
