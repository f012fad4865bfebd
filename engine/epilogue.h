/* epilogue.h - what a kernel does to each result while it is still in a register:
 *     y = act(x + bias[channel] + residual)         residual before the activation
 *     y = act(x + bias[channel]) + residual         residual after it
 * MatMul's x + bias may be multiplied with scale[channel] first.
 * The bias is an input of the operator; scale, activation and residual are put on a node by passes. */
#ifndef ENG_EPILOGUE_H
#define ENG_EPILOGUE_H

typedef enum eng_act {
    ENG_ACT_NONE,
    ENG_ACT_RELU,
    ENG_ACT_CLIP,         /* alpha = lowest, beta = highest */
    ENG_ACT_LEAKY_RELU,   /* alpha * x below 0 */
    ENG_ACT_SIGMOID,
    ENG_ACT_SILU,         /* x * sigmoid(alpha * x), alpha 1 mostly: Swish */
    ENG_ACT_HARD_SIGMOID, /* clip(alpha * x + beta, 0, 1) */
    ENG_ACT_HARD_SWISH,   /* x * clip(x / 6 + 1/2, 0, 1) */
    ENG_ACT_GELU_ERF,
    ENG_ACT_GELU_TANH,
    ENG_ACT_TANH,
    ENG_ACT_MISH,
    ENG_ACT_ELU,          /* alpha * (exp(x) - 1) below 0 */
    ENG_ACT_SOFTPLUS,
    ENG_ACTS
} eng_act;

typedef enum eng_residual { ENG_RES_NONE, ENG_RES_BEFORE_ACT, ENG_RES_AFTER_ACT } eng_residual;

typedef struct eng_epilogue {
    eng_act act;
    float alpha, beta;
    eng_residual residual;
    int residual_in; /* the node's input that is added; its dims equal the output's */
    int scale_in;    /* the node's input of a factor for each channel, of MatMul alone; 0: none */
} eng_epilogue;

#endif
