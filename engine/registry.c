/* registry.c - every operator onnxd runs, one line a variant: by name, then since. */
#include "engine/ops/control.h"
#include "engine/ops/ml.h"
#include "engine/ops/ops.h"
#include "engine/ops/shape.h"

#include <string.h>

/* columns: name, domain, since, types, flags, import, prepare, infer, layout, alias, run */
const eng_op eng_ops[] = {
    /* ---- convolution, pooling, images ---- */
    /* conv.c */
    {"Conv", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_CL_FIRST | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_FUSES | ENG_HALF, NULL, eng_conv_prepare, eng_conv_infer, eng_conv_layout, NULL, eng_conv_run},
    /* pool.c, global_pool.c */
    {"MaxPool", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT | ENG_T_INT8, ENG_CL_FIRST | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF, NULL, eng_pool_prepare, eng_pool_infer, NULL, NULL, eng_max_pool_run},
    {"AveragePool", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_CL_FIRST | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF, NULL, eng_pool_prepare, eng_pool_infer, NULL, NULL, eng_average_pool_run},
    {"LpPool", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_CL_FIRST | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF, NULL, eng_pool_prepare, eng_lp_pool_infer, NULL, NULL, eng_lp_pool_run},
    {"GlobalAveragePool", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_CL_FIRST | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF, NULL, NULL, eng_global_pool_infer, NULL, NULL, eng_global_average_pool_run},
    {"GlobalMaxPool", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_CL_FIRST | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF, NULL, NULL, eng_global_pool_infer, NULL, NULL, eng_global_max_pool_run},
    {"GlobalLpPool", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_CL_FIRST | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF, NULL, NULL, eng_global_pool_infer, NULL, NULL, eng_global_lp_pool_run},
    /* conv_transpose.c */
    {"ConvTranspose", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_CL_FIRST | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_FUSES | ENG_HALF, NULL, eng_conv_transpose_prepare, eng_conv_transpose_infer, NULL, NULL, eng_conv_transpose_run},
    /* resize.c */
    {"Resize", ENG_DOMAIN_ONNX, 10, ENG_T_NUMERIC | ENG_T(ENG_BOOL) | ENG_T(ENG_STRING) | ENG_T_COMPLEX, ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF, eng_resize10_import, eng_resize_prepare, eng_resize_infer, eng_resize_layout, NULL, eng_resize_run},
    {"Resize", ENG_DOMAIN_ONNX, 11, ENG_T_NUMERIC | ENG_T(ENG_BOOL) | ENG_T(ENG_STRING) | ENG_T_COMPLEX, ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF, NULL, eng_resize_prepare, eng_resize_infer, eng_resize_layout, NULL, eng_resize_run},
    {"Upsample", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC | ENG_T(ENG_BOOL) | ENG_T(ENG_STRING) | ENG_T_COMPLEX, ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF, eng_upsample1_import, eng_resize_prepare, eng_resize_infer, eng_resize_layout, NULL, eng_resize_run},
    {"Upsample", ENG_DOMAIN_ONNX, 7, ENG_T_NUMERIC | ENG_T(ENG_BOOL) | ENG_T(ENG_STRING) | ENG_T_COMPLEX, ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF, eng_resize10_import, eng_resize_prepare, eng_resize_infer, eng_resize_layout, NULL, eng_resize_run},
    /* grid_sample.c, affine_grid.c */
    {"GridSample", ENG_DOMAIN_ONNX, 16, ENG_T_NUMERIC | ENG_T(ENG_BOOL) | ENG_T(ENG_STRING) | ENG_T_COMPLEX, ENG_CL_FIRST | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF | ENG_AS_DOUBLE, NULL, eng_grid_sample_prepare, eng_grid_sample_infer, NULL, NULL, eng_grid_sample_run},
    {"GridSample", ENG_DOMAIN_MS, 1, ENG_T_FLOAT, ENG_CL_FIRST | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF, NULL, eng_grid_sample_prepare, eng_grid_sample_infer, NULL, NULL, eng_grid_sample_run},
    {"AffineGrid", ENG_DOMAIN_ONNX, 20, ENG_T_FLOAT, ENG_HALF, NULL, NULL, eng_affine_grid_infer, NULL, NULL, eng_affine_grid_run},
    /* roi.c */
    {"RoiAlign", ENG_DOMAIN_ONNX, 10, ENG_T_FLOAT, ENG_CL_FIRST | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF, eng_roi_align10_import, NULL, eng_roi_align_infer, NULL, NULL, eng_roi_align_run},
    {"RoiAlign", ENG_DOMAIN_ONNX, 16, ENG_T_FLOAT, ENG_CL_FIRST | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF, NULL, NULL, eng_roi_align_infer, NULL, NULL, eng_roi_align_run},
    {"MaxRoiPool", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_CL_FIRST | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF, NULL, NULL, eng_max_roi_pool_infer, NULL, NULL, eng_max_roi_pool_run},
    {"CropAndResize", ENG_DOMAIN_MS, 1, ENG_T_FLOAT, ENG_CL_FIRST | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF, NULL, NULL, eng_crop_and_resize_infer, NULL, NULL, eng_crop_and_resize_run},
    /* nms.c, unpool.c, deform_conv.c, causal_conv.c */
    {"NonMaxSuppression", ENG_DOMAIN_ONNX, 10, ENG_T(ENG_FLOAT), 0, NULL, NULL, eng_nms_infer, NULL, NULL, eng_nms_run},
    {"MaxUnpool", ENG_DOMAIN_ONNX, 9, ENG_T_NUMERIC, 0, NULL, eng_pool_prepare, eng_max_unpool_infer, NULL, NULL, eng_max_unpool_run},
    {"DeformConv", ENG_DOMAIN_ONNX, 19, ENG_T_FLOAT, ENG_CL_FIRST | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF, NULL, eng_deform_conv_prepare, eng_deform_conv_infer, NULL, NULL, eng_deform_conv_run},
    {"CausalConvWithState", ENG_DOMAIN_ONNX, 27, ENG_T(ENG_FLOAT) | ENG_T_HALF, ENG_HALF, NULL, NULL, eng_causal_conv_infer, NULL, NULL, eng_causal_conv_run},
    /* image_decoder.c */
    {"ImageDecoder", ENG_DOMAIN_ONNX, 20, ENG_T(ENG_UINT8), 0, NULL, NULL, eng_image_decoder_infer, NULL, NULL, eng_image_decoder_run},
    /* nhwc.c, old_images.c */
    {"FusedConv", ENG_DOMAIN_MS, 1, ENG_T_FLOAT & ~ENG_T(ENG_DOUBLE), ENG_CL_FIRST | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF | ENG_FUSES, eng_fused_conv_import, eng_conv_prepare, eng_fused_conv_infer, eng_conv_layout, NULL, eng_conv_run},
    {"NhwcConv", ENG_DOMAIN_MS, 1, ENG_T_FLOAT, ENG_HALF, NULL, eng_conv_prepare, eng_nhwc_conv_infer, NULL, NULL, eng_nhwc_conv_run},
    {"NhwcMaxPool", ENG_DOMAIN_MS, 1, ENG_T_INT8, 0, NULL, eng_pool_prepare, eng_nhwc_max_pool_infer, NULL, NULL, eng_nhwc_max_pool_run},
    {"QLinearConv", ENG_DOMAIN_MS, 1, ENG_T_INT8, 0, NULL, NULL, eng_ms_qlinear_conv_infer, NULL, NULL, eng_ms_qlinear_conv_run},
    {"ImageScaler", ENG_DOMAIN_ONNX, 1, ENG_T(ENG_FLOAT) | ENG_T_HALF, ENG_CL_FIRST | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF, NULL, NULL, eng_image_scaler_infer, NULL, NULL, eng_image_scaler_run},
    {"Affine", ENG_DOMAIN_ONNX, 1, ENG_T(ENG_FLOAT) | ENG_T_HALF, ENG_HALF | ENG_INPLACE, NULL, NULL, eng_infer_same, NULL, NULL, eng_affine_run},
    {"Crop", ENG_DOMAIN_ONNX, 1, ENG_T(ENG_FLOAT) | ENG_T_HALF, ENG_HALF, NULL, NULL, eng_crop_infer, NULL, NULL, eng_crop_run},

    /* ---- moving data: shapes, indexing ---- */
    /* identity.c */
    {"Identity", ENG_DOMAIN_ONNX, 1, ENG_T_ANY, ENG_PITCH_IN | ENG_PITCH_OUT, NULL, NULL, eng_infer_same, eng_layout_keep, eng_alias_same, eng_identity_run},
    {"Dropout", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT | ENG_T_FLOAT8, ENG_PITCH_IN | ENG_RANDOM, NULL, NULL, eng_dropout_infer, eng_layout_keep, eng_dropout_alias, eng_dropout_run},
    {"Shape", ENG_DOMAIN_ONNX, 1, ENG_T_TENSOR, ENG_SHAPE_ONLY | ENG_PITCH_IN, NULL, NULL, eng_shape_infer, eng_layout_any, NULL, eng_shape_run},
    {"Size", ENG_DOMAIN_ONNX, 1, ENG_T_TENSOR, ENG_SHAPE_ONLY | ENG_PITCH_IN, NULL, NULL, eng_size_infer, eng_layout_any, NULL, eng_size_run},
    {"ConstantOfShape", ENG_DOMAIN_ONNX, 9, ENG_T(ENG_INT64), 0, NULL, NULL, eng_constant_of_shape_infer, NULL, NULL, eng_constant_of_shape_run},
    {"Range", ENG_DOMAIN_ONNX, 11, ENG_T_NUMERIC, ENG_HALF, NULL, NULL, eng_range_infer, NULL, NULL, eng_range_run},
    {"EyeLike", ENG_DOMAIN_ONNX, 9, ENG_T_NUMERIC | ENG_T(ENG_BOOL), ENG_SHAPE_ONLY, NULL, NULL, eng_eye_like_infer, NULL, NULL, eng_eye_like_run},
    /* reshape.c */
    {"Reshape", ENG_DOMAIN_ONNX, 1, ENG_T_TENSOR, ENG_PITCH_IN, eng_reshape_import, NULL, eng_reshape_infer, eng_reshape_layout, eng_reshape_alias, eng_reshape_run},
    {"Flatten", ENG_DOMAIN_ONNX, 1, ENG_T_TENSOR, ENG_PITCH_IN, NULL, NULL, eng_flatten_infer, eng_reshape_layout, eng_reshape_alias, eng_reshape_run},
    {"Squeeze", ENG_DOMAIN_ONNX, 1, ENG_T_TENSOR, ENG_PITCH_IN, eng_squeeze_import, NULL, eng_squeeze_infer, eng_reshape_layout, eng_reshape_alias, eng_reshape_run},
    {"Unsqueeze", ENG_DOMAIN_ONNX, 1, ENG_T_TENSOR, ENG_PITCH_IN, eng_squeeze_import, NULL, eng_unsqueeze_infer, eng_reshape_layout, eng_reshape_alias, eng_reshape_run},
    {"ExpandDims", ENG_DOMAIN_MS, 1, ENG_T_TENSOR, ENG_PITCH_IN, NULL, NULL, eng_unsqueeze_infer, eng_reshape_layout, eng_reshape_alias, eng_reshape_run},
    /* transpose.c, concat.c, slice.c, expand.c, gather.c, pad.c */
    {"Transpose", ENG_DOMAIN_ONNX, 1, ENG_T_TENSOR, ENG_PITCH_IN | ENG_PITCH_OUT, NULL, NULL, eng_transpose_infer, eng_transpose_layout, eng_transpose_alias, eng_transpose_run},
    {"Rearrange", ENG_DOMAIN_OWN, 1, ENG_T_TENSOR, ENG_PITCH_IN | ENG_PITCH_OUT, NULL, NULL, eng_rearrange_infer, eng_rearrange_layout, eng_rearrange_alias, eng_rearrange_run},
    {"GatherRows", ENG_DOMAIN_OWN, 1, ENG_T(ENG_FLOAT), 0, NULL, NULL, eng_gather_rows_infer, NULL, NULL, eng_gather_rows_run},
    /* chain.c */
    {"Chain", ENG_DOMAIN_OWN, 1, ENG_T_ANY, ENG_CL_ALL | ENG_INPLACE | ENG_PITCH_IN | ENG_PITCH_OUT, NULL, eng_chain_prepare, eng_chain_infer, NULL, NULL, eng_chain_run},
    {"Concat", ENG_DOMAIN_ONNX, 1, ENG_T_TENSOR, ENG_CL_ALL | ENG_PITCH_IN | ENG_PITCH_OUT, eng_concat_import, NULL, eng_concat_infer, NULL, NULL, eng_concat_run},
    {"Split", ENG_DOMAIN_ONNX, 1, ENG_T_TENSOR, ENG_PITCH_IN | ENG_PITCH_OUT, eng_split_import, NULL, eng_split_infer, eng_layout_keep, eng_split_alias, eng_split_run},
    {"Slice", ENG_DOMAIN_ONNX, 1, ENG_T_TENSOR, ENG_PITCH_IN | ENG_PITCH_OUT, eng_slice_import, NULL, eng_slice_infer, eng_layout_keep, eng_slice_alias, eng_slice_run},
    {"Expand", ENG_DOMAIN_ONNX, 8, ENG_T_TENSOR, ENG_PITCH_IN | ENG_PITCH_OUT, NULL, NULL, eng_expand_infer, eng_layout_keep, eng_alias_same, eng_expand_run},
    {"Tile", ENG_DOMAIN_ONNX, 1, ENG_T_TENSOR, ENG_PITCH_IN | ENG_PITCH_OUT, NULL, NULL, eng_tile_infer, eng_layout_keep, eng_alias_same, eng_tile_run},
    {"Gather", ENG_DOMAIN_ONNX, 1, ENG_T_TENSOR, 0, NULL, NULL, eng_gather_infer, eng_gather_layout, eng_gather_alias, eng_gather_run},
    {"Pad", ENG_DOMAIN_ONNX, 1, ENG_T_TENSOR, 0, eng_pad_import, NULL, eng_pad_infer, eng_layout_keep, eng_pad_alias, eng_pad_run},
    {"Pad", ENG_DOMAIN_MS, 1, ENG_T_TENSOR, 0, eng_pad_import, NULL, eng_pad_infer, eng_layout_keep, eng_pad_alias, eng_pad_run},
    {"CenterCropPad", ENG_DOMAIN_ONNX, 18, ENG_T_TENSOR, ENG_PITCH_IN | ENG_PITCH_OUT, NULL, NULL, eng_center_crop_pad_infer, eng_layout_keep, eng_alias_same, eng_center_crop_pad_run},
    /* gather_nd.c, scatter.c */
    {"GatherElements", ENG_DOMAIN_ONNX, 11, ENG_T_TENSOR, 0, NULL, NULL, eng_gather_elements_infer, NULL, NULL, eng_gather_elements_run},
    {"GatherND", ENG_DOMAIN_ONNX, 11, ENG_T_TENSOR, 0, NULL, NULL, eng_gather_nd_infer, NULL, NULL, eng_gather_nd_run},
    {"GatherND", ENG_DOMAIN_MS, 1, ENG_T_TENSOR, 0, NULL, NULL, eng_gather_nd_infer, NULL, NULL, eng_gather_nd_run},
    {"Compress", ENG_DOMAIN_ONNX, 9, ENG_T_TENSOR, 0, NULL, NULL, eng_compress_infer, NULL, NULL, eng_compress_run},
    {"Scatter", ENG_DOMAIN_ONNX, 9, ENG_T_TENSOR, 0, NULL, NULL, eng_scatter_elements_infer, NULL, NULL, eng_scatter_elements_run},
    {"ScatterElements", ENG_DOMAIN_ONNX, 11, ENG_T_TENSOR, ENG_HALF, NULL, NULL, eng_scatter_elements_infer, NULL, NULL, eng_scatter_elements_run},
    {"ScatterND", ENG_DOMAIN_ONNX, 11, ENG_T_TENSOR, ENG_HALF, NULL, NULL, eng_scatter_nd_infer, NULL, NULL, eng_scatter_nd_run},
    {"TensorScatter", ENG_DOMAIN_ONNX, 24, ENG_T_TENSOR, 0, NULL, NULL, eng_tensor_scatter_infer, NULL, NULL, eng_tensor_scatter_run},
    /* depth_space.c, onehot.c, unique.c */
    {"DepthToSpace", ENG_DOMAIN_ONNX, 1, ENG_T_TENSOR, ENG_PITCH_IN | ENG_PITCH_OUT, NULL, NULL, eng_depth_to_space_infer, eng_layout_keep, NULL, eng_depth_to_space_run},
    {"SpaceToDepth", ENG_DOMAIN_ONNX, 1, ENG_T_TENSOR, ENG_PITCH_IN | ENG_PITCH_OUT, NULL, NULL, eng_space_to_depth_infer, eng_layout_keep, NULL, eng_space_to_depth_run},
    {"Col2Im", ENG_DOMAIN_ONNX, 18, ENG_T_NUMERIC | ENG_T(ENG_BOOL) | ENG_T_COMPLEX, ENG_HALF, NULL, NULL, eng_col2im_infer, NULL, NULL, eng_col2im_run},
    {"OneHot", ENG_DOMAIN_ONNX, 9, ENG_T_NUMERIC, 0, NULL, NULL, eng_one_hot_infer, NULL, NULL, eng_one_hot_run},
    {"Trilu", ENG_DOMAIN_ONNX, 14, ENG_T_TENSOR, ENG_INPLACE, NULL, NULL, eng_trilu_infer, NULL, NULL, eng_trilu_run},
    {"Trilu", ENG_DOMAIN_MS, 1, ENG_T_TENSOR, ENG_INPLACE, NULL, NULL, eng_trilu_infer, NULL, NULL, eng_trilu_run},
    {"NonZero", ENG_DOMAIN_ONNX, 9, ENG_T_TENSOR, 0, NULL, NULL, eng_non_zero_infer, NULL, NULL, eng_non_zero_run},
    {"ReverseSequence", ENG_DOMAIN_ONNX, 10, ENG_T_TENSOR, 0, NULL, NULL, eng_reverse_sequence_infer, NULL, NULL, eng_reverse_sequence_run},
    {"Unique", ENG_DOMAIN_ONNX, 11, ENG_T_TENSOR, 0, NULL, NULL, eng_unique_infer, NULL, NULL, eng_unique_run},
    {"Unique", ENG_DOMAIN_MS, 1, ENG_T_TENSOR, 0, NULL, NULL, eng_unique_infer, NULL, NULL, eng_unique_run},

    /* ---- matrix products, normalization, reduction ---- */
    /* matmul.c, gemm.c */
    {"MatMul", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT | ENG_T(ENG_INT32) | ENG_T(ENG_INT64) | ENG_T(ENG_UINT32) | ENG_T(ENG_UINT64), ENG_FUSES | ENG_HALF, NULL, eng_matmul_prepare, eng_matmul_infer, NULL, NULL, eng_matmul_run},
    {"Gemm", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT | ENG_T(ENG_INT32) | ENG_T(ENG_INT64) | ENG_T(ENG_UINT32) | ENG_T(ENG_UINT64), ENG_FUSES | ENG_HALF, NULL, eng_gemm_prepare, eng_gemm_infer, NULL, NULL, eng_gemm_run},
    /* softmax.c */
    {"Softmax", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_INPLACE | ENG_HALF, NULL, NULL, eng_softmax_infer, eng_softmax_layout, NULL, eng_softmax_run},
    {"LogSoftmax", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_INPLACE | ENG_HALF, NULL, NULL, eng_softmax_infer, eng_softmax_layout, NULL, eng_logsoftmax_run},
    {"Hardmax", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_INPLACE | ENG_HALF, NULL, NULL, eng_softmax_infer, eng_softmax_layout, NULL, eng_hardmax_run},
    /* reduce.c */
    {"ReduceSum", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_PITCH_IN | ENG_HALF, eng_reduce_import, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_sum_run},
    {"ReduceSum", ENG_DOMAIN_ONNX, 13, ENG_T_NUMERIC, ENG_PITCH_IN | ENG_HALF, NULL, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_sum_run},
    {"ReduceMean", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_PITCH_IN | ENG_HALF, eng_reduce_import, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_mean_run},
    {"ReduceMean", ENG_DOMAIN_ONNX, 18, ENG_T_NUMERIC, ENG_PITCH_IN | ENG_HALF, NULL, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_mean_run},
    {"ReduceMax", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC | ENG_T(ENG_BOOL), ENG_PITCH_IN | ENG_HALF, eng_reduce_import, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_max_run},
    {"ReduceMax", ENG_DOMAIN_ONNX, 18, ENG_T_NUMERIC | ENG_T(ENG_BOOL), ENG_PITCH_IN | ENG_HALF, NULL, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_max_run},
    {"ReduceMin", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC | ENG_T(ENG_BOOL), ENG_PITCH_IN | ENG_HALF, eng_reduce_import, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_min_run},
    {"ReduceMin", ENG_DOMAIN_ONNX, 18, ENG_T_NUMERIC | ENG_T(ENG_BOOL), ENG_PITCH_IN | ENG_HALF, NULL, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_min_run},
    {"ReduceProd", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_PITCH_IN | ENG_HALF, eng_reduce_import, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_prod_run},
    {"ReduceProd", ENG_DOMAIN_ONNX, 18, ENG_T_NUMERIC, ENG_PITCH_IN | ENG_HALF, NULL, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_prod_run},
    {"ReduceL1", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_PITCH_IN | ENG_HALF, eng_reduce_import, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_l1_run},
    {"ReduceL1", ENG_DOMAIN_ONNX, 18, ENG_T_NUMERIC, ENG_PITCH_IN | ENG_HALF, NULL, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_l1_run},
    {"ReduceL2", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_PITCH_IN | ENG_HALF, eng_reduce_import, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_l2_run},
    {"ReduceL2", ENG_DOMAIN_ONNX, 18, ENG_T_NUMERIC, ENG_PITCH_IN | ENG_HALF, NULL, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_l2_run},
    {"ReduceSumSquare", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_PITCH_IN | ENG_HALF, eng_reduce_import, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_sum_square_run},
    {"ReduceSumSquare", ENG_DOMAIN_ONNX, 18, ENG_T_NUMERIC, ENG_PITCH_IN | ENG_HALF, NULL, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_sum_square_run},
    {"ReduceLogSum", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_PITCH_IN | ENG_HALF, eng_reduce_import, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_log_sum_run},
    {"ReduceLogSum", ENG_DOMAIN_ONNX, 18, ENG_T_NUMERIC, ENG_PITCH_IN | ENG_HALF, NULL, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_log_sum_run},
    {"ReduceLogSumExp", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_PITCH_IN | ENG_HALF, eng_reduce_import, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_log_sum_exp_run},
    {"ReduceLogSumExp", ENG_DOMAIN_ONNX, 18, ENG_T_NUMERIC, ENG_PITCH_IN | ENG_HALF, NULL, NULL, eng_reduce_infer, eng_reduce_layout, NULL, eng_reduce_log_sum_exp_run},
    /* batchnorm.c, layernorm.c */
    {"BatchNormalization", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF | ENG_FUSES_ACT, NULL, NULL, eng_batchnorm_infer, eng_batchnorm_layout, NULL, eng_batchnorm_run},
    {"LayerNormalization", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_HALF, NULL, NULL, eng_layernorm_infer, NULL, NULL, eng_layernorm_run},
    {"RMSNormalization", ENG_DOMAIN_ONNX, 23, ENG_T_FLOAT, ENG_HALF, NULL, NULL, eng_layernorm_infer, NULL, NULL, eng_layernorm_run},
    /* channelnorm.c, lpnorm.c */
    {"InstanceNormalization", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF | ENG_FUSES_ACT, NULL, NULL, eng_groupnorm_infer, eng_channels_layout, NULL, eng_groupnorm_run},
    {"GroupNormalization", ENG_DOMAIN_ONNX, 18, ENG_T_FLOAT, ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF | ENG_FUSES_ACT, NULL, NULL, eng_groupnorm_infer, eng_channels_layout, NULL, eng_groupnorm_run},
    {"LRN", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_CL_FIRST | ENG_PITCH_IN | ENG_PITCH_OUT | ENG_HALF, NULL, NULL, eng_lrn_infer, NULL, NULL, eng_lrn_run},
    {"LpNormalization", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_HALF, NULL, NULL, eng_lpnorm_infer, eng_channels_layout, NULL, eng_lpnorm_run},
    {"MeanVarianceNormalization", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_HALF, NULL, NULL, eng_mvn_infer, NULL, NULL, eng_mvn_run},
    /* arg.c, topk.c, cumulative.c */
    {"ArgMax", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_HALF, NULL, NULL, eng_arg_infer, eng_arg_layout, NULL, eng_argmax_run},
    {"ArgMin", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_HALF, NULL, NULL, eng_arg_infer, eng_arg_layout, NULL, eng_argmin_run},
    {"TopK", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_HALF, eng_topk_import, NULL, eng_topk_infer, NULL, NULL, eng_topk_run},
    {"TopK", ENG_DOMAIN_ONNX, 10, ENG_T_NUMERIC, ENG_HALF, NULL, NULL, eng_topk_infer, NULL, NULL, eng_topk_run},
    {"CumSum", ENG_DOMAIN_ONNX, 11, ENG_T_NUMERIC, ENG_HALF, NULL, NULL, eng_cumulative_infer, NULL, NULL, eng_cumsum_run},
    {"CumProd", ENG_DOMAIN_ONNX, 26, ENG_T_NUMERIC, ENG_HALF, NULL, NULL, eng_cumulative_infer, NULL, NULL, eng_cumprod_run},
    /* einsum.c, det.c, loss.c */
    {"Einsum", ENG_DOMAIN_ONNX, 12, ENG_T_NUMERIC, ENG_HALF | ENG_AS_INT32, NULL, eng_einsum_prepare, eng_einsum_infer, NULL, NULL, eng_einsum_run},
    {"Det", ENG_DOMAIN_ONNX, 11, ENG_T_FLOAT, ENG_HALF, NULL, NULL, eng_det_infer, NULL, NULL, eng_det_run},
    {"NegativeLogLikelihoodLoss", ENG_DOMAIN_ONNX, 12, ENG_T_FLOAT, ENG_HALF, NULL, NULL, eng_loss_infer, NULL, NULL, eng_nll_loss_run},
    {"SoftmaxCrossEntropyLoss", ENG_DOMAIN_ONNX, 12, ENG_T_FLOAT, ENG_HALF, NULL, NULL, eng_loss_infer, NULL, NULL, eng_softmax_loss_run},
    /* attention.c, rotary.c, linear_attention.c, flex_attention.c */
    {"Attention", ENG_DOMAIN_ONNX, 23, ENG_T_FLOAT, ENG_HALF, NULL, NULL, eng_attention_infer, NULL, NULL, eng_attention_op_run},
    {"RotaryEmbedding", ENG_DOMAIN_ONNX, 23, ENG_T(ENG_FLOAT) | ENG_T_HALF, ENG_HALF, NULL, NULL, eng_rotary_infer, NULL, NULL, eng_rotary_run},
    {"FlexAttention", ENG_DOMAIN_PREVIEW, 1, ENG_T_FLOAT, ENG_HALF, NULL, NULL, eng_flex_attention_infer, NULL, NULL, eng_flex_attention_run},
    {"LinearAttention", ENG_DOMAIN_ONNX, 27, ENG_T(ENG_FLOAT) | ENG_T_HALF, ENG_HALF, NULL, NULL, eng_linear_attention_infer, NULL, NULL, eng_linear_attention_run},

    /* ---- control flow, sequences, optionals, text, recurrent networks, signals ---- */
    /* control.c, scan.c */
    {"If", ENG_DOMAIN_ONNX, 1, ENG_T(ENG_BOOL), ENG_SEQ | ENG_BRANCH, NULL, NULL, eng_if_infer, NULL, NULL, eng_if_run},
    {"Loop", ENG_DOMAIN_ONNX, 1, ENG_T(ENG_INT64), ENG_SEQ, eng_loop_import, NULL, eng_loop_infer, NULL, NULL, eng_no_run},
    {"Scan", ENG_DOMAIN_ONNX, 8, ENG_T(ENG_INT64), ENG_SEQ, NULL, NULL, eng_scan8_infer, NULL, NULL, eng_no_run},
    {"Scan", ENG_DOMAIN_ONNX, 9, ENG_T_TENSOR, ENG_SEQ, NULL, NULL, eng_scan_infer, NULL, NULL, eng_no_run},
    /* sequence.c */
    {"SequenceEmpty", ENG_DOMAIN_ONNX, 11, ENG_T(ENG_SEQUENCE), ENG_SEQ, NULL, NULL, eng_sequence_empty_infer, NULL, NULL, eng_no_run},
    {"SequenceConstruct", ENG_DOMAIN_ONNX, 11, ENG_T_TENSOR, ENG_SEQ, NULL, NULL, eng_sequence_construct_infer, NULL, NULL, eng_no_run},
    {"SequenceAt", ENG_DOMAIN_ONNX, 11, ENG_T(ENG_SEQUENCE), ENG_SEQ, NULL, NULL, eng_sequence_at_infer, NULL, NULL, eng_no_run},
    {"SequenceInsert", ENG_DOMAIN_ONNX, 11, ENG_T(ENG_SEQUENCE), ENG_SEQ, NULL, NULL, eng_sequence_insert_infer, NULL, NULL, eng_no_run},
    {"SequenceErase", ENG_DOMAIN_ONNX, 11, ENG_T(ENG_SEQUENCE), ENG_SEQ, NULL, NULL, eng_sequence_erase_infer, NULL, NULL, eng_no_run},
    {"SequenceLength", ENG_DOMAIN_ONNX, 11, ENG_T(ENG_SEQUENCE), ENG_SEQ, NULL, NULL, eng_sequence_length_infer, NULL, NULL, eng_sequence_length_run},
    {"SplitToSequence", ENG_DOMAIN_ONNX, 11, ENG_T_TENSOR, ENG_SEQ, NULL, NULL, eng_split_to_sequence_infer, NULL, NULL, eng_no_run},
    {"ConcatFromSequence", ENG_DOMAIN_ONNX, 11, ENG_T(ENG_SEQUENCE), ENG_SEQ, NULL, NULL, eng_concat_from_sequence_infer, NULL, NULL, eng_concat_from_sequence_run},
    {"SequenceMap", ENG_DOMAIN_ONNX, 17, ENG_T(ENG_SEQUENCE), ENG_SEQ, NULL, NULL, eng_sequence_map_infer, NULL, NULL, eng_no_run},
    /* optional.c */
    {"Optional", ENG_DOMAIN_ONNX, 15, ENG_T_TENSOR | ENG_T(ENG_SEQUENCE), ENG_SEQ, NULL, NULL, eng_optional_infer, NULL, NULL, eng_no_run},
    {"OptionalHasElement", ENG_DOMAIN_ONNX, 15, ENG_T_TENSOR | ENG_T(ENG_SEQUENCE) | ENG_T(ENG_OPTIONAL), ENG_SEQ, NULL, NULL, eng_optional_has_element_infer, NULL, NULL, eng_optional_has_element_run},
    {"OptionalGetElement", ENG_DOMAIN_ONNX, 15, ENG_T_TENSOR | ENG_T(ENG_SEQUENCE) | ENG_T(ENG_OPTIONAL), ENG_SEQ, NULL, NULL, eng_optional_get_element_infer, NULL, NULL, eng_no_run},
    /* rnn.c */
    {"RNN", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_HALF, NULL, eng_rnn_prepare, eng_rnn_infer, NULL, NULL, eng_rnn_run},
    {"GRU", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_HALF, NULL, eng_rnn_prepare, eng_rnn_infer, NULL, NULL, eng_rnn_run},
    {"LSTM", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_HALF, NULL, eng_rnn_prepare, eng_rnn_infer, NULL, NULL, eng_rnn_run},
    /* signal.c */
    {"DFT", ENG_DOMAIN_ONNX, 17, ENG_T_FLOAT, ENG_HALF, eng_dft17_import, NULL, eng_dft_infer, NULL, NULL, eng_dft_run},
    {"DFT", ENG_DOMAIN_ONNX, 20, ENG_T_FLOAT, ENG_HALF, NULL, NULL, eng_dft_infer, NULL, NULL, eng_dft_run},
    {"STFT", ENG_DOMAIN_ONNX, 17, ENG_T_FLOAT, ENG_HALF, NULL, NULL, eng_stft_infer, NULL, NULL, eng_stft_run},
    {"HannWindow", ENG_DOMAIN_ONNX, 17, ENG_T(ENG_INT32) | ENG_T(ENG_INT64), ENG_HALF, NULL, NULL, eng_cosine_window_infer, NULL, NULL, eng_hann_window_run},
    {"HammingWindow", ENG_DOMAIN_ONNX, 17, ENG_T(ENG_INT32) | ENG_T(ENG_INT64), ENG_HALF, NULL, NULL, eng_cosine_window_infer, NULL, NULL, eng_hamming_window_run},
    {"BlackmanWindow", ENG_DOMAIN_ONNX, 17, ENG_T(ENG_INT32) | ENG_T(ENG_INT64), ENG_HALF, NULL, NULL, eng_cosine_window_infer, NULL, NULL, eng_blackman_window_run},
    {"MelWeightMatrix", ENG_DOMAIN_ONNX, 17, ENG_T(ENG_INT32) | ENG_T(ENG_INT64), ENG_HALF, NULL, NULL, eng_mel_weights_infer, NULL, NULL, eng_mel_weights_run},
    /* text.c, tfidf.c */
    {"StringConcat", ENG_DOMAIN_ONNX, 20, ENG_T(ENG_STRING), 0, NULL, NULL, eng_string_concat_infer, NULL, NULL, eng_string_concat_run},
    {"StringSplit", ENG_DOMAIN_ONNX, 20, ENG_T(ENG_STRING), 0, NULL, NULL, eng_string_split_infer, NULL, NULL, eng_string_split_run},
    {"StringNormalizer", ENG_DOMAIN_ONNX, 10, ENG_T(ENG_STRING), 0, NULL, NULL, eng_string_normalizer_infer, NULL, NULL, eng_string_normalizer_run},
    {"RegexFullMatch", ENG_DOMAIN_ONNX, 20, ENG_T(ENG_STRING), 0, NULL, eng_regex_prepare, eng_regex_infer, NULL, NULL, eng_regex_run},
    {"TfIdfVectorizer", ENG_DOMAIN_ONNX, 9, ENG_T(ENG_INT32) | ENG_T(ENG_INT64) | ENG_T(ENG_STRING), 0, NULL, eng_tfidf_prepare, eng_tfidf_infer, NULL, NULL, eng_tfidf_run},

    /* ---- ai.onnx.ml ---- */
    /* ml_linear.c */
    {"LinearRegressor", ENG_DOMAIN_ML, 1, ENG_T_ML, 0, NULL, NULL, eng_linear_regressor_infer, NULL, NULL, eng_linear_regressor_run},
    {"LinearClassifier", ENG_DOMAIN_ML, 1, ENG_T_ML, 0, NULL, NULL, eng_linear_classifier_infer, NULL, NULL, eng_linear_classifier_run},
    {"SVMRegressor", ENG_DOMAIN_ML, 1, ENG_T_ML, 0, NULL, NULL, eng_svm_regressor_infer, NULL, NULL, eng_svm_regressor_run},
    {"SVMClassifier", ENG_DOMAIN_ML, 1, ENG_T_ML, 0, NULL, NULL, eng_svm_classifier_infer, NULL, NULL, eng_svm_classifier_run},
    /* ml_tree.c */
    {"TreeEnsembleClassifier", ENG_DOMAIN_ML, 1, ENG_T_ML, 0, NULL, eng_tree_classifier_prepare, eng_tree_classifier_infer, NULL, NULL, eng_trees_run},
    {"TreeEnsembleRegressor", ENG_DOMAIN_ML, 1, ENG_T_ML, 0, NULL, eng_tree_regressor_prepare, eng_tree_regressor_infer, NULL, NULL, eng_trees_run},
    {"TreeEnsemble", ENG_DOMAIN_ML, 5, ENG_T(ENG_FLOAT) | ENG_T(ENG_DOUBLE) | ENG_T(ENG_FLOAT16), ENG_HALF, NULL, eng_tree_ensemble_prepare, eng_tree_regressor_infer, NULL, NULL, eng_trees_run},
    /* ml_features.c */
    {"ArrayFeatureExtractor", ENG_DOMAIN_ML, 1, ENG_T_ML | ENG_T(ENG_STRING), 0, NULL, NULL, eng_array_feature_extractor_infer, NULL, NULL, eng_array_feature_extractor_run},
    {"Binarizer", ENG_DOMAIN_ML, 1, ENG_T_ML, 0, NULL, NULL, eng_infer_same, NULL, NULL, eng_binarizer_run},
    {"FeatureVectorizer", ENG_DOMAIN_ML, 1, ENG_T_ML, 0, NULL, NULL, eng_feature_vectorizer_infer, NULL, NULL, eng_feature_vectorizer_run},
    {"Imputer", ENG_DOMAIN_ML, 1, ENG_T_ML, 0, NULL, NULL, eng_infer_same, NULL, NULL, eng_imputer_run},
    {"Normalizer", ENG_DOMAIN_ML, 1, ENG_T_ML, 0, NULL, NULL, eng_ml_float_infer, NULL, NULL, eng_normalizer_run},
    {"OneHotEncoder", ENG_DOMAIN_ML, 1, ENG_T_ML | ENG_T(ENG_STRING), 0, NULL, NULL, eng_one_hot_encoder_infer, NULL, NULL, eng_one_hot_encoder_run},
    {"Scaler", ENG_DOMAIN_ML, 1, ENG_T_ML, 0, NULL, NULL, eng_ml_float_infer, NULL, NULL, eng_scaler_run},
    /* ml_labels.c */
    {"LabelEncoder", ENG_DOMAIN_ML, 1, ENG_T(ENG_INT64) | ENG_T(ENG_STRING), 0, NULL, eng_label_encoder1_prepare, eng_two_ways_infer, NULL, NULL, eng_two_ways_run},
    {"LabelEncoder", ENG_DOMAIN_ML, 2, ENG_T_ML | ENG_T(ENG_STRING) | ENG_T(ENG_INT16), 0, NULL, eng_label_encoder_prepare, eng_label_encoder_infer, NULL, NULL, eng_label_encoder_run},
    {"CategoryMapper", ENG_DOMAIN_ML, 1, ENG_T(ENG_INT64) | ENG_T(ENG_STRING), 0, NULL, eng_category_mapper_prepare, eng_two_ways_infer, NULL, NULL, eng_two_ways_run},
    {"CastMap", ENG_DOMAIN_ML, 1, ENG_T(ENG_MAP), ENG_SEQ, NULL, NULL, eng_cast_map_infer, NULL, NULL, eng_no_run},
    {"DictVectorizer", ENG_DOMAIN_ML, 1, ENG_T(ENG_MAP), ENG_SEQ, NULL, NULL, eng_dict_vectorizer_infer, NULL, NULL, eng_no_run},
    {"ZipMap", ENG_DOMAIN_ML, 1, ENG_T(ENG_FLOAT), ENG_SEQ, NULL, NULL, eng_zip_map_infer, NULL, NULL, eng_no_run},

    /* ---- com.microsoft, beyond the forms of standard operators ---- */
    /* matmul.c, gemm.c, det.c */
    {"FusedMatMul", ENG_DOMAIN_MS, 1, ENG_T_FLOAT, ENG_FUSES | ENG_HALF, NULL, eng_matmul_prepare, eng_matmul_infer, NULL, NULL, eng_matmul_run},
    {"TransposeMatMul", ENG_DOMAIN_MS, 1, ENG_T_FLOAT, ENG_FUSES | ENG_HALF, NULL, eng_matmul_prepare, eng_matmul_infer, NULL, NULL, eng_matmul_run},
    {"FusedGemm", ENG_DOMAIN_MS, 1, ENG_T_FLOAT, ENG_HALF, NULL, eng_gemm_prepare, eng_gemm_infer, NULL, NULL, eng_gemm_run},
    {"Inverse", ENG_DOMAIN_MS, 1, ENG_T_FLOAT, ENG_HALF, NULL, NULL, eng_inverse_infer, NULL, NULL, eng_inverse_run},
    /* layernorm.c, channelnorm.c, rotary.c */
    {"LayerNormalization", ENG_DOMAIN_MS, 1, ENG_T_FLOAT, ENG_HALF, NULL, NULL, eng_layernorm_infer, NULL, NULL, eng_layernorm_run},
    {"SimplifiedLayerNormalization", ENG_DOMAIN_MS, 1, ENG_T_FLOAT, ENG_HALF, NULL, NULL, eng_layernorm_infer, NULL, NULL, eng_layernorm_run},
    {"SimplifiedLayerNormalization", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_HALF, NULL, NULL, eng_layernorm_infer, NULL, NULL, eng_layernorm_run},
    {"SkipLayerNormalization", ENG_DOMAIN_MS, 1, ENG_T(ENG_FLOAT) | ENG_T_HALF, ENG_HALF, NULL, NULL, eng_skip_layernorm_infer, NULL, NULL, eng_skip_layernorm_run},
    {"SkipSimplifiedLayerNormalization", ENG_DOMAIN_MS, 1, ENG_T(ENG_FLOAT) | ENG_T_HALF, ENG_HALF, NULL, NULL, eng_skip_layernorm_infer, NULL, NULL, eng_skip_layernorm_run},
    {"EmbedLayerNormalization", ENG_DOMAIN_MS, 1, ENG_T(ENG_INT32), ENG_HALF, NULL, NULL, eng_embed_layernorm_infer, NULL, NULL, eng_embed_layernorm_run},
    {"GroupNorm", ENG_DOMAIN_MS, 1, ENG_T(ENG_FLOAT) | ENG_T_HALF, ENG_HALF, NULL, NULL, eng_ms_groupnorm_infer, NULL, NULL, eng_ms_groupnorm_run},
    {"SkipGroupNorm", ENG_DOMAIN_MS, 1, ENG_T(ENG_FLOAT) | ENG_T_HALF, ENG_HALF, NULL, NULL, eng_ms_groupnorm_infer, NULL, NULL, eng_ms_groupnorm_run},
    {"RotaryEmbedding", ENG_DOMAIN_MS, 1, ENG_T(ENG_FLOAT) | ENG_T_HALF, ENG_HALF, NULL, NULL, eng_rotary_infer, NULL, NULL, eng_rotary_run},
    /* ms_attention.c, ms_multihead.c */
    {"Attention", ENG_DOMAIN_MS, 1, ENG_T(ENG_FLOAT) | ENG_T_HALF, ENG_HALF, NULL, eng_ms_attention_prepare, eng_ms_attention_infer, NULL, NULL, eng_ms_attention_run},
    {"QAttention", ENG_DOMAIN_MS, 1, ENG_T_INT8, ENG_HALF, NULL, eng_ms_attention_prepare, eng_ms_attention_infer, NULL, NULL, eng_ms_attention_run},
    {"MultiHeadAttention", ENG_DOMAIN_MS, 1, ENG_T(ENG_FLOAT) | ENG_T_HALF, ENG_HALF, NULL, NULL, eng_mha_infer, NULL, NULL, eng_mha_run},
    {"GroupQueryAttention", ENG_DOMAIN_MS, 1, ENG_T(ENG_FLOAT) | ENG_T_HALF, ENG_HALF, NULL, eng_gqa_prepare, eng_gqa_infer, NULL, NULL, eng_gqa_run},

    /* ---- elementwise, quantization, random numbers ---- */
    /* qlinear.c and ONNX Runtime's of activation.c */
    {"QLinearAdd", ENG_DOMAIN_MS, 1, ENG_T_INT8, ENG_CL_ALL | ENG_PITCH_IN | ENG_PITCH_OUT, NULL, NULL, eng_qlinear_pair_infer, NULL, NULL, eng_qlinear_add_run},
    {"QLinearMul", ENG_DOMAIN_MS, 1, ENG_T_INT8, ENG_CL_ALL | ENG_PITCH_IN | ENG_PITCH_OUT, NULL, NULL, eng_qlinear_pair_infer, NULL, NULL, eng_qlinear_mul_run},
    {"QLinearSigmoid", ENG_DOMAIN_MS, 1, ENG_T_INT8, ENG_CL_ALL | ENG_PITCH_IN | ENG_PITCH_OUT, NULL, NULL, eng_qlinear_unary_infer, NULL, NULL, eng_qlinear_sigmoid_run},
    {"QLinearLeakyRelu", ENG_DOMAIN_MS, 1, ENG_T_INT8, ENG_CL_ALL | ENG_PITCH_IN | ENG_PITCH_OUT, NULL, NULL, eng_qlinear_unary_infer, NULL, NULL, eng_qlinear_leaky_relu_run},
    {"QLinearConcat", ENG_DOMAIN_MS, 1, ENG_T(ENG_FLOAT), 0, NULL, NULL, eng_qlinear_concat_infer, NULL, NULL, eng_qlinear_concat_run},
    {"QLinearSoftmax", ENG_DOMAIN_MS, 1, ENG_T_INT8, 0, NULL, NULL, eng_qlinear_softmax_infer, NULL, NULL, eng_qlinear_softmax_run},
    {"QLinearAveragePool", ENG_DOMAIN_MS, 1, ENG_T_INT8, 0, NULL, NULL, eng_qlinear_average_pool_infer, NULL, NULL, eng_qlinear_average_pool_run},
    {"QLinearGlobalAveragePool", ENG_DOMAIN_MS, 1, ENG_T_INT8, 0, NULL, NULL, eng_qlinear_global_average_pool_infer, NULL, NULL, eng_qlinear_global_average_pool_run},
    {"Gelu", ENG_DOMAIN_MS, 1, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_ms_gelu_run},
    {"QuickGelu", ENG_DOMAIN_MS, 1, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_quick_gelu_run},
    {"FastGelu", ENG_DOMAIN_MS, 1, ENG_T(ENG_FLOAT) | ENG_T_HALF, ENG_EW, NULL, NULL, eng_bias_gelu_infer, NULL, NULL, eng_fast_gelu_run},
    {"BiasGelu", ENG_DOMAIN_MS, 1, ENG_T(ENG_FLOAT) | ENG_T_HALF, ENG_EW, NULL, NULL, eng_bias_gelu_infer, NULL, NULL, eng_bias_gelu_run},
    {"BiasSplitGelu", ENG_DOMAIN_MS, 1, ENG_T(ENG_FLOAT) | ENG_T_HALF, ENG_HALF, NULL, NULL, eng_bias_split_gelu_infer, NULL, NULL, eng_bias_split_gelu_run},
    /* random.c */
    {"RandomNormal", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_RANDOM, NULL, NULL, eng_random_infer, NULL, NULL, eng_random_normal_run},
    {"RandomUniform", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_RANDOM, NULL, NULL, eng_random_infer, NULL, NULL, eng_random_uniform_run},
    {"RandomNormalLike", ENG_DOMAIN_ONNX, 1, ENG_T_TENSOR, ENG_RANDOM | ENG_SHAPE_ONLY, NULL, NULL, eng_random_like_infer, NULL, NULL, eng_random_normal_run},
    {"RandomUniformLike", ENG_DOMAIN_ONNX, 1, ENG_T_TENSOR, ENG_RANDOM | ENG_SHAPE_ONLY, NULL, NULL, eng_random_like_infer, NULL, NULL, eng_random_uniform_run},
    {"Bernoulli", ENG_DOMAIN_ONNX, 15, ENG_T_FLOAT, ENG_RANDOM, NULL, NULL, eng_bernoulli_infer, NULL, NULL, eng_bernoulli_run},
    {"Multinomial", ENG_DOMAIN_ONNX, 7, ENG_T_FLOAT, ENG_RANDOM, NULL, NULL, eng_multinomial_infer, NULL, NULL, eng_multinomial_run},
    /* qmatmul.c, qconv.c */
    {"MatMulInteger", ENG_DOMAIN_ONNX, 10, ENG_T_INT8, 0, NULL, NULL, eng_matmul_integer_infer, NULL, NULL, eng_matmul_integer_run},
    {"QLinearMatMul", ENG_DOMAIN_ONNX, 10, ENG_T_INT8 | ENG_T_FLOAT8, 0, NULL, NULL, eng_qlinear_matmul_infer, NULL, NULL, eng_qlinear_matmul_run},
    {"ConvInteger", ENG_DOMAIN_ONNX, 10, ENG_T_INT8, 0, NULL, NULL, eng_conv_integer_infer, NULL, NULL, eng_conv_integer_run},
    {"QLinearConv", ENG_DOMAIN_ONNX, 10, ENG_T_INT8, 0, NULL, NULL, eng_qlinear_conv_infer, NULL, NULL, eng_qlinear_conv_run},
    {"MatMulIntegerToFloat", ENG_DOMAIN_MS, 1, ENG_T_INT8, ENG_HALF, NULL, NULL, eng_matmul_integer_to_float_infer, NULL, NULL, eng_matmul_integer_to_float_run},
    {"DynamicQuantizeMatMul", ENG_DOMAIN_MS, 1, ENG_T(ENG_FLOAT), 0, NULL, NULL, eng_dynamic_quantize_matmul_infer, NULL, NULL, eng_dynamic_quantize_matmul_run},
    {"QGemm", ENG_DOMAIN_MS, 1, ENG_T_INT8, 0, NULL, NULL, eng_qgemm_infer, NULL, NULL, eng_qgemm_run},
    {"MatMulNBits", ENG_DOMAIN_MS, 1, ENG_T(ENG_FLOAT) | ENG_T_HALF, ENG_HALF, NULL, NULL, eng_matmul_nbits_infer, NULL, NULL, eng_matmul_nbits_run},
    /* quantize.c */
    {"QuantizeLinear", ENG_DOMAIN_ONNX, 10, ENG_T(ENG_FLOAT) | ENG_T_HALF | ENG_T(ENG_INT32), ENG_PITCH_IN | ENG_PITCH_OUT, NULL, NULL, eng_quantize_infer, eng_quantize_layout, NULL, eng_quantize_run},
    {"DequantizeLinear", ENG_DOMAIN_ONNX, 10, ENG_T_QUANTIZED | ENG_T(ENG_INT32), ENG_PITCH_IN | ENG_PITCH_OUT, NULL, NULL, eng_dequantize_infer, eng_quantize_layout, NULL, eng_dequantize_run},
    {"QuantizeLinear", ENG_DOMAIN_MS, 1, ENG_T(ENG_FLOAT) | ENG_T_HALF | ENG_T(ENG_INT32), ENG_PITCH_IN | ENG_PITCH_OUT, NULL, NULL, eng_quantize_infer, eng_quantize_layout, NULL, eng_quantize_run},
    {"DequantizeLinear", ENG_DOMAIN_MS, 1, ENG_T_QUANTIZED | ENG_T(ENG_INT32), ENG_PITCH_IN | ENG_PITCH_OUT, NULL, NULL, eng_dequantize_infer, eng_quantize_layout, NULL, eng_dequantize_run},
    {"DynamicQuantizeLinear", ENG_DOMAIN_ONNX, 11, ENG_T(ENG_FLOAT), 0, NULL, NULL, eng_dynamic_quantize_infer, NULL, NULL, eng_dynamic_quantize_run},
    /* cast.c */
    {"Cast", ENG_DOMAIN_ONNX, 1, ENG_T_TENSOR, ENG_EW & ~ENG_HALF, eng_cast_import, NULL, eng_cast_infer, NULL, NULL, eng_cast_run},
    {"Cast", ENG_DOMAIN_ONNX, 6, ENG_T_TENSOR, ENG_EW & ~ENG_HALF, NULL, NULL, eng_cast_infer, NULL, NULL, eng_cast_run},
    {"CastLike", ENG_DOMAIN_ONNX, 15, ENG_T_TENSOR, 0, NULL, NULL, eng_cast_like_infer, NULL, NULL, eng_cast_run},
    {"BitCast", ENG_DOMAIN_ONNX, 26, ENG_T_TENSOR, 0, NULL, NULL, eng_bit_cast_infer, NULL, NULL, eng_bit_cast_run},
    /* binary.c */
    {"Add", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_EW, eng_pair_import, NULL, eng_arith_infer, NULL, NULL, eng_add_run},
    {"Add", ENG_DOMAIN_ONNX, 7, ENG_T_NUMERIC, ENG_EW, NULL, NULL, eng_arith_infer, NULL, NULL, eng_add_run},
    {"AddAligned", ENG_DOMAIN_OWN, 1, ENG_T_NUMERIC, ENG_HALF, NULL, NULL, eng_arith_infer, NULL, NULL, eng_add_run},
    {"Sub", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_EW, eng_pair_import, NULL, eng_arith_infer, NULL, NULL, eng_sub_run},
    {"Sub", ENG_DOMAIN_ONNX, 7, ENG_T_NUMERIC, ENG_EW, NULL, NULL, eng_arith_infer, NULL, NULL, eng_sub_run},
    {"SubAligned", ENG_DOMAIN_OWN, 1, ENG_T_NUMERIC, ENG_HALF, NULL, NULL, eng_arith_infer, NULL, NULL, eng_sub_run},
    {"Mul", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_EW, eng_pair_import, NULL, eng_arith_infer, NULL, NULL, eng_mul_run},
    {"Mul", ENG_DOMAIN_ONNX, 7, ENG_T_NUMERIC, ENG_EW, NULL, NULL, eng_arith_infer, NULL, NULL, eng_mul_run},
    {"MulAligned", ENG_DOMAIN_OWN, 1, ENG_T_NUMERIC, ENG_HALF, NULL, NULL, eng_arith_infer, NULL, NULL, eng_mul_run},
    {"Div", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_EW, eng_pair_import, NULL, eng_arith_infer, NULL, NULL, eng_div_run},
    {"Div", ENG_DOMAIN_ONNX, 7, ENG_T_NUMERIC, ENG_EW, NULL, NULL, eng_arith_infer, NULL, NULL, eng_div_run},
    {"DivAligned", ENG_DOMAIN_OWN, 1, ENG_T_NUMERIC, ENG_HALF, NULL, NULL, eng_arith_infer, NULL, NULL, eng_div_run},
    {"Pow", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_EW, eng_pair_import, NULL, eng_pow_infer, NULL, NULL, eng_pow_run},
    {"Pow", ENG_DOMAIN_ONNX, 7, ENG_T_NUMERIC, ENG_EW, NULL, NULL, eng_pow_infer, NULL, NULL, eng_pow_run},
    {"PowAligned", ENG_DOMAIN_OWN, 1, ENG_T_NUMERIC, ENG_HALF, NULL, NULL, eng_pow_infer, NULL, NULL, eng_pow_run},
    {"Mod", ENG_DOMAIN_ONNX, 10, ENG_T_NUMERIC, ENG_EW, NULL, NULL, eng_arith_infer, NULL, NULL, eng_mod_run},
    {"PRelu", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_EW, eng_prelu_import, NULL, eng_prelu_infer, NULL, NULL, eng_prelu_run},
    {"PRelu", ENG_DOMAIN_ONNX, 7, ENG_T_NUMERIC, ENG_EW, NULL, NULL, eng_prelu_infer, NULL, NULL, eng_prelu_run},
    {"PReluAligned", ENG_DOMAIN_OWN, 1, ENG_T_NUMERIC, ENG_HALF, NULL, NULL, eng_prelu_infer, NULL, NULL, eng_prelu_run},
    /* unary.c */
    {"Abs", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_abs_run},
    {"Neg", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_neg_run},
    {"Sign", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_sign_run},
    {"Exp", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_exp_run},
    {"Log", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_log_run},
    {"Erf", ENG_DOMAIN_ONNX, 9, ENG_T_NUMERIC, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_erf_run},
    {"Sqrt", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_sqrt_run},
    {"Reciprocal", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_reciprocal_run},
    {"Floor", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_floor_run},
    {"Ceil", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_ceil_run},
    {"Round", ENG_DOMAIN_ONNX, 11, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_round_run},
    {"Sin", ENG_DOMAIN_ONNX, 7, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_sin_run},
    {"Cos", ENG_DOMAIN_ONNX, 7, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_cos_run},
    {"Tan", ENG_DOMAIN_ONNX, 7, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_tan_run},
    {"Asin", ENG_DOMAIN_ONNX, 7, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_asin_run},
    {"Acos", ENG_DOMAIN_ONNX, 7, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_acos_run},
    {"Atan", ENG_DOMAIN_ONNX, 7, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_atan_run},
    {"Sinh", ENG_DOMAIN_ONNX, 9, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_sinh_run},
    {"Cosh", ENG_DOMAIN_ONNX, 9, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_cosh_run},
    {"Asinh", ENG_DOMAIN_ONNX, 9, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_asinh_run},
    {"Acosh", ENG_DOMAIN_ONNX, 9, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_acosh_run},
    {"Atanh", ENG_DOMAIN_ONNX, 9, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_atanh_run},
    {"IsNaN", ENG_DOMAIN_ONNX, 9, ENG_T_FLOAT | ENG_T_FLOAT8, ENG_EW, NULL, NULL, eng_kind_infer, NULL, NULL, eng_isnan_run},
    {"IsInf", ENG_DOMAIN_ONNX, 10, ENG_T_FLOAT | ENG_T_FLOAT8, ENG_EW, NULL, NULL, eng_kind_infer, NULL, NULL, eng_isinf_run},
    /* activation.c, clip.c */
    {"Relu", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_relu_run},
    {"Sigmoid", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_sigmoid_run},
    {"Tanh", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_tanh_run},
    {"Softplus", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_softplus_run},
    {"Softsign", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_softsign_run},
    {"Mish", ENG_DOMAIN_ONNX, 18, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_mish_run},
    {"Elu", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_elu_run},
    {"Celu", ENG_DOMAIN_ONNX, 12, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_celu_run},
    {"Swish", ENG_DOMAIN_ONNX, 24, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_swish_run},
    {"LeakyRelu", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_leaky_relu_run},
    {"HardSigmoid", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_hard_sigmoid_run},
    {"HardSwish", ENG_DOMAIN_ONNX, 14, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_hard_swish_run},
    {"ThresholdedRelu", ENG_DOMAIN_ONNX, 10, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_thresholded_relu_run},
    {"Shrink", ENG_DOMAIN_ONNX, 9, ENG_T_NUMERIC, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_shrink_run},
    {"Selu", ENG_DOMAIN_ONNX, 1, ENG_T_FLOAT, ENG_EW, eng_selu_import, NULL, eng_infer_same, NULL, NULL, eng_selu_run},
    {"Selu", ENG_DOMAIN_ONNX, 6, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_infer_same, NULL, NULL, eng_selu_run},
    {"Gelu", ENG_DOMAIN_ONNX, 20, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_gelu_infer, NULL, NULL, eng_gelu_run},
    {"SwiGLU", ENG_DOMAIN_ONNX, 28, ENG_T_FLOAT, ENG_EW, NULL, NULL, eng_swiglu_infer, NULL, NULL, eng_swiglu_run},
    {"Clip", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_EW, eng_clip_import, NULL, eng_clip_infer, NULL, NULL, eng_clip_run},
    {"Clip", ENG_DOMAIN_ONNX, 11, ENG_T_NUMERIC, ENG_EW, NULL, NULL, eng_clip_infer, NULL, NULL, eng_clip_run},
    /* compare.c, logic.c, bitwise.c, where.c, minmax.c */
    {"Equal", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC | ENG_T(ENG_BOOL) | ENG_T(ENG_STRING), ENG_EW, eng_pair_import, NULL, eng_compare_infer, NULL, NULL, eng_equal_run},
    {"Equal", ENG_DOMAIN_ONNX, 7, ENG_T_NUMERIC | ENG_T(ENG_BOOL) | ENG_T(ENG_STRING), ENG_EW, NULL, NULL, eng_compare_infer, NULL, NULL, eng_equal_run},
    {"EqualAligned", ENG_DOMAIN_OWN, 1, ENG_T_NUMERIC | ENG_T(ENG_BOOL) | ENG_T(ENG_STRING), ENG_HALF, NULL, NULL, eng_compare_infer, NULL, NULL, eng_equal_run},
    {"Less", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_EW, eng_pair_import, NULL, eng_compare_infer, NULL, NULL, eng_less_run},
    {"Less", ENG_DOMAIN_ONNX, 7, ENG_T_NUMERIC, ENG_EW, NULL, NULL, eng_compare_infer, NULL, NULL, eng_less_run},
    {"LessAligned", ENG_DOMAIN_OWN, 1, ENG_T_NUMERIC, ENG_HALF, NULL, NULL, eng_compare_infer, NULL, NULL, eng_less_run},
    {"Greater", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_EW, eng_pair_import, NULL, eng_compare_infer, NULL, NULL, eng_greater_run},
    {"Greater", ENG_DOMAIN_ONNX, 7, ENG_T_NUMERIC, ENG_EW, NULL, NULL, eng_compare_infer, NULL, NULL, eng_greater_run},
    {"GreaterAligned", ENG_DOMAIN_OWN, 1, ENG_T_NUMERIC, ENG_HALF, NULL, NULL, eng_compare_infer, NULL, NULL, eng_greater_run},
    {"LessOrEqual", ENG_DOMAIN_ONNX, 12, ENG_T_NUMERIC, ENG_EW, NULL, NULL, eng_compare_infer, NULL, NULL, eng_less_or_equal_run},
    {"GreaterOrEqual", ENG_DOMAIN_ONNX, 12, ENG_T_NUMERIC, ENG_EW, NULL, NULL, eng_compare_infer, NULL, NULL, eng_greater_or_equal_run},
    {"And", ENG_DOMAIN_ONNX, 1, ENG_T(ENG_BOOL), ENG_EW & ~ENG_HALF, eng_pair_import, NULL, eng_compare_infer, NULL, NULL, eng_and_run},
    {"And", ENG_DOMAIN_ONNX, 7, ENG_T(ENG_BOOL), ENG_EW & ~ENG_HALF, NULL, NULL, eng_compare_infer, NULL, NULL, eng_and_run},
    {"AndAligned", ENG_DOMAIN_OWN, 1, ENG_T(ENG_BOOL), 0, NULL, NULL, eng_compare_infer, NULL, NULL, eng_and_run},
    {"Or", ENG_DOMAIN_ONNX, 1, ENG_T(ENG_BOOL), ENG_EW & ~ENG_HALF, eng_pair_import, NULL, eng_compare_infer, NULL, NULL, eng_or_run},
    {"Or", ENG_DOMAIN_ONNX, 7, ENG_T(ENG_BOOL), ENG_EW & ~ENG_HALF, NULL, NULL, eng_compare_infer, NULL, NULL, eng_or_run},
    {"OrAligned", ENG_DOMAIN_OWN, 1, ENG_T(ENG_BOOL), 0, NULL, NULL, eng_compare_infer, NULL, NULL, eng_or_run},
    {"Xor", ENG_DOMAIN_ONNX, 1, ENG_T(ENG_BOOL), ENG_EW & ~ENG_HALF, eng_pair_import, NULL, eng_compare_infer, NULL, NULL, eng_xor_run},
    {"Xor", ENG_DOMAIN_ONNX, 7, ENG_T(ENG_BOOL), ENG_EW & ~ENG_HALF, NULL, NULL, eng_compare_infer, NULL, NULL, eng_xor_run},
    {"XorAligned", ENG_DOMAIN_OWN, 1, ENG_T(ENG_BOOL), 0, NULL, NULL, eng_compare_infer, NULL, NULL, eng_xor_run},
    {"Not", ENG_DOMAIN_ONNX, 1, ENG_T(ENG_BOOL), ENG_EW & ~ENG_HALF, NULL, NULL, eng_infer_same, NULL, NULL, eng_not_run},
    {"BitwiseAnd", ENG_DOMAIN_ONNX, 18, ENG_T_INT, ENG_EW & ~ENG_HALF, NULL, NULL, eng_arith_infer, NULL, NULL, eng_bitwise_and_run},
    {"BitwiseOr", ENG_DOMAIN_ONNX, 18, ENG_T_INT, ENG_EW & ~ENG_HALF, NULL, NULL, eng_arith_infer, NULL, NULL, eng_bitwise_or_run},
    {"BitwiseXor", ENG_DOMAIN_ONNX, 18, ENG_T_INT, ENG_EW & ~ENG_HALF, NULL, NULL, eng_arith_infer, NULL, NULL, eng_bitwise_xor_run},
    {"BitwiseNot", ENG_DOMAIN_ONNX, 18, ENG_T_INT, ENG_EW & ~ENG_HALF, NULL, NULL, eng_infer_same, NULL, NULL, eng_bitwise_not_run},
    {"BitShift", ENG_DOMAIN_ONNX, 11, ENG_T_INT, ENG_EW & ~ENG_HALF, NULL, NULL, eng_bit_shift_infer, NULL, NULL, eng_bit_shift_run},
    {"Where", ENG_DOMAIN_ONNX, 9, ENG_T(ENG_BOOL), ENG_EW & ~ENG_HALF, NULL, NULL, eng_where_infer, NULL, NULL, eng_where_run},
    {"Min", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_EW & ~ENG_INPLACE, NULL, NULL, eng_variadic_infer, NULL, NULL, eng_min_run},
    {"Max", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_EW & ~ENG_INPLACE, NULL, NULL, eng_variadic_infer, NULL, NULL, eng_max_run},
    {"Sum", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_EW & ~ENG_INPLACE, NULL, NULL, eng_variadic_infer, NULL, NULL, eng_sum_run},
    {"Mean", ENG_DOMAIN_ONNX, 1, ENG_T_NUMERIC, ENG_EW & ~ENG_INPLACE, NULL, NULL, eng_variadic_infer, NULL, NULL, eng_mean_run},
    /* made by passes */
    {"Attention", ENG_DOMAIN_OWN, 1, ENG_T(ENG_FLOAT), 0, NULL, eng_attention_own_prepare, eng_attention_own_infer, NULL, NULL,
     eng_attention_own_run},
};

const int eng_ops_count = (int)OD_COUNT(eng_ops);

const eng_op *eng_op_find(eng_domain domain, const char *name, int opset)
{
    const eng_op *best = NULL;
    for (int i = 0; i < eng_ops_count; i++) {
        const eng_op *op = &eng_ops[i];
        if (op->domain != domain || op->since > opset || strcmp(op->name, name)) continue;
        if (!best || op->since > best->since) best = op;
    }
    return best;
}
