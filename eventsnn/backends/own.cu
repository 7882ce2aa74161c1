// What a rule of a user's own is translated into (cuda_rules.py), before the rule and all kernels: Python's arithmetic of
// floats. `wrong` becomes true where Python raises.

#define OWN_RULE

// Python's division of floats: by zero it raises.
__device__ double divided(double a, double b, bool *wrong) {
    *wrong |= b == 0;
    return a / b;
}

__device__ double modulo(double a, double b, bool *wrong) {
    *wrong |= b == 0;
    const double rest = fmod(a, b);
    if (rest == 0) return copysign(0.0, b);
    return (rest < 0) != (b < 0) ? rest + b : rest;
}

__device__ double floor_divided(double a, double b, bool *wrong) {
    *wrong |= b == 0;
    const double rest = fmod(a, b), near = (a - rest) / b;
    const double quotient = rest != 0 && (rest < 0) != (b < 0) ? near - 1 : near;
    const double whole = floor(quotient);
    return quotient - whole > 0.5 ? whole + 1 : whole;
}

__device__ double least(double a, double b) { return b < a ? b : a; }

__device__ double greatest(double a, double b) { return b > a ? b : a; }

__device__ double squared(double a) { return a * a; }

__device__ double power(double a, double b, bool *wrong) {
    *wrong |= a == 0 && b < 0;
    return pow(a, b);
}
